"""Schedules compared with those of torch, step by step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler as torch_schedules

from slipform.train.config.schedules import OneCycle
from slipform.train.config.sections import VARIANTS
from slipform.train.step.schedule import factor

STEPS, EPOCHS = 7, 12  # steps in an epoch: odd, so that no fraction is exact
TOTAL = STEPS * EPOCHS
LR = 0.3


def _torch_rates(make: Callable[[torch.optim.Optimizer], Any], per_epoch: bool) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    schedule = make(optimizer)
    rates = []
    for step in range(TOTAL):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if not per_epoch or (step + 1) % STEPS == 0:
            schedule.step()
    return rates


CASES: dict[str, tuple[dict[str, Any], Callable[[torch.optim.Optimizer], Any], bool]] = {
    "constant": ({}, lambda o: torch_schedules.ConstantLR(o, factor=1.0), True),
    "step": ({"step_size": 5, "gamma": 0.3}, lambda o: torch_schedules.StepLR(o, 5, 0.3), True),
    "multistep": (
        {"milestones": (7, 2), "gamma": 0.2},
        lambda o: torch_schedules.MultiStepLR(o, [2, 7], 0.2),
        True,
    ),
    "cosine": (
        {"final_factor": 0.1},
        lambda o: torch_schedules.CosineAnnealingLR(o, TOTAL, eta_min=0.1 * LR),
        False,
    ),
    "linear": (
        {"final_factor": 0.05},
        lambda o: torch_schedules.LinearLR(o, 1.0, 0.05, TOTAL),
        False,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_factors_equal_those_of_torch(name: str) -> None:
    settings, make, per_epoch = CASES[name]
    config = VARIANTS["schedule"][name](**settings)
    ours = [LR * factor(config, step / STEPS, EPOCHS) for step in range(TOTAL)]
    assert ours == pytest.approx(_torch_rates(make, per_epoch), rel=1e-9, abs=1e-12)


def test_one_cycle_equals_that_of_torch() -> None:
    """torch's cycle ends at the last step, and its maximum is one step before pct_start. Slipform's
    maximum is exactly at `rise`. torch therefore gets a cycle that is one step longer, with its
    maximum one step later."""
    config = OneCycle(rise=0.25)
    later = (config.rise * TOTAL + 1) / (TOTAL + 1)
    theirs = _torch_rates(
        lambda o: torch_schedules.OneCycleLR(
            o, LR, total_steps=TOTAL + 1, pct_start=later, cycle_momentum=False
        ),
        False,
    )
    ours = [LR * factor(config, step / STEPS, EPOCHS) for step in range(TOTAL)]
    assert ours == pytest.approx(theirs, rel=1e-9)
    assert max(ours) == pytest.approx(LR)


@pytest.mark.parametrize("name", [*CASES, "one_cycle"])
def test_warm_up_rises_linearly_and_then_the_curve_follows(name: str) -> None:
    late = {"step": {"step_size": 100}, "multistep": {"milestones": (100,)}}.get(name, {})
    section: Any = VARIANTS["schedule"][name]
    config = section(warmup_epochs=1.5, warmup_factor=0.1, **late)
    start = factor(config, 1.5, EPOCHS)
    rates = [factor(config, p, EPOCHS) / start for p in (0.0, 0.5, 1.0, 1.5)]
    assert rates == pytest.approx([0.1, 0.4, 0.7, 1.0])
    if name in ("cosine", "linear"):
        middle = factor(config, 1.5 + 0.5 * (EPOCHS - 1.5), EPOCHS)
        assert middle == pytest.approx(0.5)
        assert factor(config, EPOCHS, EPOCHS) == pytest.approx(0.0, abs=1e-12)
    assert math.isfinite(factor(config, EPOCHS + 3.0, EPOCHS))
