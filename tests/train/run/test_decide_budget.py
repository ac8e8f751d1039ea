"""The steps that "auto" measures: batches of the run's size, within the budget. Speeds are
simulated."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from slipform.train.run.trial import Variant
from tests.train.run.scripted import FP32, Scripted, quick


@pytest.mark.parametrize(
    ("seconds", "accumulate", "limit", "variants", "reason"),
    [
        (0.0005, 1, 30.0, 0, "the run is short"),
        (0.3, 1, 30.0, 4, "in images/s"),
        (0.3, 5, 30.0, 2, "in images/s"),
        (0.3, 1, 6.0, 2, "in images/s"),
        (0.3, 5, 5.0, 0, "would take 25.5 s (70 batches of 8 images), and the limit is 5.0 s"),
        (1.2, 1, 30.0, 2, "in images/s"),
        (1.2, 1, 5.0, 0, "would take 18.0 s (14 batches of 8 images), and the limit is 5.0 s"),
        (6.0, 1, 30.0, 2, "with 2 of the 8 images of a batch"),
        (6.0, 1, 5.0, 0, "would take 90.0 s (14 batches of 8 images), and the limit is 5.0 s"),
        (4000.0, 1, 30.0, 0, "(14 batches of 8 images), and the limit is 30.0 s"),
    ],
)
def test_the_budget_is_kept(
    scripted: Any, seconds: float, accumulate: int, limit: float, variants: int, reason: str
) -> None:
    """At most 2 % of the run and `auto_seconds`, with the four steps of the probe. The memory
    format is left out first. A batch takes `seconds`."""
    config = quick(epochs=200, auto_seconds=limit, accumulate=accumulate)
    decision, steps = scripted(lambda variant, size: seconds * size / 8, config)
    assert len(decision.rates) == variants
    assert reason in decision.reason
    if decision.rates:
        budget = min(limit, 0.02 * 200 * 30 * seconds)
        assert decision.seconds == Scripted.now <= budget
    else:
        assert len(steps) <= 4
        assert decision.config.train.precision == "fp32"


def _with_fixed_costs(variant: Variant, size: int) -> float:
    """bfloat16 is faster with more than 40 images, and slower with fewer."""
    return 0.3 + 0.005 * size if variant.precision == "bf16" else 0.0125 * size


def test_batches_are_as_large_as_those_of_the_run(scripted: Any) -> None:
    """The budget allows 14 steps with whole batches, and 32 with smaller ones."""
    decision, steps = scripted(_with_fixed_costs, quick(epochs=300, batch_size=64))
    assert decision.config.train.precision == "bf16"
    assert {size for _, size in steps[6:]} == {64}
    assert "of the 64 images" not in decision.reason


@pytest.mark.parametrize("epochs", [26, 100, 140])
def test_a_few_images_do_not_stand_for_a_batch(scripted: Any, epochs: int) -> None:
    """Whole batches exceed the budget, and steps with fewer images are mostly overhead."""
    decision, steps = scripted(_with_fixed_costs, quick(epochs=epochs, batch_size=64))
    assert decision.reason.startswith("fp32, channels last: not measured, because")
    assert "(14 batches of 64 images)" in decision.reason
    assert {variant for variant, _ in steps} == {FP32}, "only the probe"


def test_a_long_run_of_few_steps_is_measured(scripted: Any) -> None:
    """60 steps of 12 s: smaller batches are compared, and the reason tells it. The choice is kept
    for runs that cannot afford more, too."""

    def seconds(variant: Variant, size: int) -> float:
        return 12 / 64 * size * (0.5 if variant.precision == "bf16" else 1)

    config = quick(epochs=20, batch_size=64)
    decision, steps = scripted(seconds, config)
    assert decision.config.train.precision == "bf16"
    assert {size for _, size in steps} == {4}
    assert Scripted.now < 0.02 * 60 * 12
    assert "s with 4 of the 64 images of a batch, in images/s: fp32, channels l" in decision.reason
    again, steps = scripted(seconds, config)
    assert (again.config, {size for _, size in steps}) == (decision.config, {4})
    assert "measured here on 20" in again.reason
    assert " with 4 of the 64 images of a batch, in images/s: fp32, channels l" in again.reason
    longer = quick(epochs=240, batch_size=64, auto_seconds=300)
    assert {size for _, size in scripted(seconds, longer)[1]} == {4, 64}
    later, steps = scripted(seconds, config)
    assert (later.config, steps) == (decision.config, [])
    assert "of the 64" not in later.reason


def test_a_measurement_that_is_cut_off_says_so(scripted: Any) -> None:
    """The steps take four times as long as those of the probe, so too few rounds fit."""
    number = itertools.count()

    def seconds(variant: Variant, size: int) -> float:
        slower = 1 if next(number) < 4 else 4
        return 0.02 * size * slower * (0.9 if variant.precision == "bf16" else 1)

    decision, _ = scripted(seconds, quick())
    assert decision.config.train.precision == "fp32"
    assert decision.reason.startswith("fp32, channels last, as usual: 7 rounds may take ")
    assert decision.reason.endswith(" s, but 3 of them took 9.7 s")
    assert scripted(seconds, quick())[1], "nothing is kept"
