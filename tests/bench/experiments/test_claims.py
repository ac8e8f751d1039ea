"""Checks of conclusions: every verdict, results of epochs, and texts that are not a check."""

from __future__ import annotations

import pytest

from slipform.bench.experiments.claims import evaluate, used
from slipform.pipelines.errors import ConfigError

RESULTS = {
    "A1": {
        "lr-0.1": {"val_accuracy": 0.2, "seconds": 10.0, "diverged": False},
        "lr-0.01": {
            "val_accuracy": 0.3, "seconds": 12.0, "diverged": False,
            "epochs_train_loss": [4.0, 3.0, 3.5, 2.0], "epochs_val_accuracy": [0.1, 0.2, 0.3, 0.4],
        },
        "lr-1.0": {"diverged": True},
    },
    "A3": {"base": {"val_accuracy": 0.8, "diverged": False}},
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('val_accuracy["lr-0.01"] > val_accuracy["lr-0.1"]', "holds"),
        ('val_accuracy["lr-0.1"] > val_accuracy["lr-0.01"]', "does not hold"),
        ('0.4 > val_accuracy["lr-0.01"] > val_accuracy["lr-0.1"] > 0.1', "holds"),
        ('diverged["lr-1.0"] and not diverged["lr-0.1"]', "holds"),
        ('A3.val_accuracy["base"] > 2 * val_accuracy["lr-0.01"] + 0.1', "holds"),
        ('abs(seconds["lr-0.1"] - seconds["lr-0.01"]) / 2 == 1', "holds"),
        ('max(seconds["lr-0.1"], seconds["lr-0.01"]) <= 12', "holds"),
        ('val_accuracy["lr-0.001"] > 0', "not tested"),  # these results were not measured
        ('val_accuracy["lr-1.0"] > 0', "not tested"),
        ('B1.val_accuracy["lr-0.1"] > 0', "not tested"),
        # Of several parts one may decide, and others may be missing.
        ('val_accuracy["lr-0.1"] > 1 and val_accuracy["lr-0.001"] > 0', "does not hold"),
        ('val_accuracy["lr-0.001"] > 0 and val_accuracy["lr-0.1"] > 1', "does not hold"),
        ('val_accuracy["lr-0.1"] < 1 and val_accuracy["lr-0.001"] > 0', "holds as far as tested"),
        ('val_accuracy["lr-0.1"] < 1 or val_accuracy["lr-0.001"] > 0', "holds"),
        ('not (val_accuracy["lr-0.1"] < 1 and val_accuracy["lr-0.001"] > 0)', "not tested"),
        # Numbers of every epoch.
        ('epochs_train_loss["lr-0.01"][0] - epochs_train_loss["lr-0.01"][-1] == 2', "holds"),
        ('rising(epochs_val_accuracy["lr-0.01"]) == 1', "holds"),
        ('abs(rising(epochs_train_loss["lr-0.01"]) - 1 / 3) < 0.001', "holds"),
        ('min(epochs_train_loss["lr-0.01"][:2]) == 3', "holds"),
        ('len(epochs_train_loss["lr-0.01"][1:]) == 3', "holds"),
        ('A1.epochs_train_loss["lr-0.01"][9] > 0', "not tested"),  # the run has four epochs
        ('mean(epochs_train_loss["lr-0.01"][9:]) > 0', "not tested"),
        ('epochs_train_loss["lr-0.1"][0] > 0', "not tested"),
    ],
)
def test_the_verdict_of_a_check(text: str, expected: str) -> None:
    assert evaluate(text, "A1", RESULTS) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "1 +", "__import__('os')", 'open("x")', "val_accuracy", 'val_accuracy["lr-0.1"].real',
        'val_accuracy["lr-0.1"] in (1, 2)', "[1][0]", "'text' > 1", '1 / 0 > 1', "(lambda: 1)()",
        'max(*[1, 2]) > 1', 'diverged[0]', 'A1["lr-0.1"]["x"]', 'max(key=1) > 0',
        'val_accuracy["lr-0.1"][0] > 0', 'epochs_train_loss["lr-0.01"][True] > 0',
        'epochs_train_loss["lr-0.01"][::2] > 0', 'mean(1) > 0', 'epochs_train_loss["lr-0.01"] > 0',
        'min(epochs_train_loss["lr-0.01"], key=abs) > 0',
    ],
)  # fmt: skip
def test_other_expressions_are_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        evaluate(text, "A1", RESULTS)


def test_the_results_that_a_check_needs() -> None:
    text = 'a["x"] > B2.epochs_b["y"][-1] and a["x"] < max(c["z"], 1)'
    assert set(used(text, "A1")) == {("A1", "a", "x"), ("B2", "epochs_b", "y"), ("A1", "c", "z")}
    assert len(used(text, "A1")) == 3
