"""Checks of conclusions: results True, False and "not measured", and texts that are not a check."""

from __future__ import annotations

import pytest

from slipform.bench.experiments.claims import evaluate
from slipform.pipelines.errors import ConfigError

RESULTS = {
    "A1": {
        "lr-0.1": {"val_accuracy": 0.2, "seconds": 10.0, "diverged": False},
        "lr-0.01": {"val_accuracy": 0.3, "seconds": 12.0, "diverged": False},
        "lr-1.0": {"diverged": True},
    },
    "A3": {"base": {"val_accuracy": 0.8, "diverged": False}},
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('val_accuracy["lr-0.01"] > val_accuracy["lr-0.1"]', True),
        ('val_accuracy["lr-0.1"] > val_accuracy["lr-0.01"]', False),
        ('0.4 > val_accuracy["lr-0.01"] > val_accuracy["lr-0.1"] > 0.1', True),
        ('diverged["lr-1.0"] and not diverged["lr-0.1"]', True),
        ('A3.val_accuracy["base"] > 2 * val_accuracy["lr-0.01"] + 0.1', True),
        ('abs(seconds["lr-0.1"] - seconds["lr-0.01"]) / 2 == 1', True),
        ('max(seconds["lr-0.1"], seconds["lr-0.01"]) <= 12', True),
        ('val_accuracy["lr-0.001"] > 0', None),  # these runs were not measured
        ('val_accuracy["lr-1.0"] > 0', None),
        ('B1.val_accuracy["lr-0.1"] > 0', None),
        # The first part decides.
        ('val_accuracy["lr-0.1"] > 1 and val_accuracy["lr-0.001"] > 0', False),
        ('val_accuracy["lr-0.1"] < 1 or val_accuracy["lr-0.001"] > 0', True),
    ],
)
def test_the_value_of_a_check(text: str, expected: bool | None) -> None:
    assert evaluate(text, "A1", RESULTS) is expected


@pytest.mark.parametrize(
    "text",
    [
        "", "1 +", "__import__('os')", 'open("x")', "val_accuracy", 'val_accuracy["lr-0.1"].real',
        'val_accuracy["lr-0.1"] in (1, 2)', "[1][0]", "'text' > 1", '1 / 0 > 1', "(lambda: 1)()",
        'max(*[1, 2]) > 1', 'diverged[0]', 'A1["lr-0.1"]["x"]', 'max(key=1) > 0',
    ],
)  # fmt: skip
def test_other_expressions_are_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        evaluate(text, "A1", RESULTS)
