"""`bench auto`: each fixed choice is measured, and a row has the choice of "auto" beside them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Self

import pytest

from slipform.bench.peers import OURS
from slipform.bench.race import executors, training_point
from slipform.bench.race.contestant import Opening
from slipform.bench.race.executors import executors_row
from slipform.bench.race.race import QUICK
from slipform.bench.race.training_point import Point
from slipform.bench.suites.auto import LAYOUT, measure
from slipform.bench.work import Work
from slipform.pipelines.executors import NAMES
from slipform.train.run import trial
from slipform.train.run.trial import Trial, Variant


@pytest.mark.parametrize("compiled", [False, True])
def test_a_row_has_all_choices_and_the_share_of_auto(
    shapes_raw: Path, monkeypatch: pytest.MonkeyPatch, compiled: bool
) -> None:
    """Steps whose seconds are given: "auto" has chosen float32, and bfloat16 is twice as fast."""
    slower = {Variant("fp32", True, "off"): 2.0, Variant("fp32", False, "off"): 5.0}
    slower |= {Variant("bf16", layout, "on"): 4.0 for layout in (True, False)}
    slower |= {Variant("fp32", layout, "on"): 3.2 for layout in (True, False)}
    monkeypatch.setattr(trial, "has_bfloat16", lambda device: True)
    monkeypatch.setattr(Trial, "step", lambda self, one: slower.get(one, 1.0))
    seen = []

    def decided(point: Point, seconds: float, *, known: bool) -> Point:
        seen.append((seconds, known))
        return Point(point.data, point.model, 8, precision="fp32", compile="off", layout="last")

    monkeypatch.setattr(training_point, "decided", decided)
    point = Point(str(shapes_raw), "tiny", 8, device="cpu")
    settings, figures = measure(point, 3, 4.0, auto_seconds=7.0, compiled=compiled)
    assert seen == [(7.0, False)], "a choice that the profile has shows nothing"
    assert settings["auto"] == "fp32, channels last"
    assert str(settings["fastest"]).startswith("bf16")
    assert figures["auto_of_fastest_ratio"].median == 0.5
    rates = {name: figures[name].median for name in figures if name.endswith("images_per_second")}
    fixed = {
        "fp32_last_images_per_second": 4.0,
        "fp32_first_images_per_second": 1.6,
        "bf16_last_images_per_second": 8.0,
        "bf16_first_images_per_second": 8.0,
    }
    if compiled:
        fixed |= {
            "fp32_last_compiled_images_per_second": 2.5,
            "fp32_first_compiled_images_per_second": 2.5,
            "bf16_last_compiled_images_per_second": 2.0,
            "bf16_first_compiled_images_per_second": 2.0,
        }
    assert rates == fixed
    assert LAYOUT.columns is not None
    steps = {one for one in LAYOUT.columns if one.removesuffix("_images_per_second") not in NAMES}
    assert steps - set(figures) == {one for one in steps if "_compiled_" in one and not compiled}


class _Contestant:
    """A loader whose rates are given. The process of `dali` cannot open it."""

    RATES: ClassVar = {"resident": [100.0, 110.0], "host": [200.0, 210.0]}

    def __init__(self, name: str, work: Work, effort: object, fixed: dict[str, str]) -> None:
        assert (name, work.augment.crop) == (OURS, "random")
        self._rates = iter(self.RATES.get(fixed["executor"], []))
        known = fixed["executor"] in self.RATES
        self.opening = Opening() if known else Opening("not possible", "no decoder")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def measure(self) -> dict[str, float]:
        return {"images_per_second": next(self._rates)}


def test_a_row_has_all_executors_and_the_share_of_auto(
    shapes_raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The executor of "auto" is `resident`. `host` is faster here."""
    monkeypatch.setattr(executors, "Contestant", _Contestant)
    row = executors_row(shapes_raw, 2, "cpu", replace(QUICK, rounds=2), lambda text: None)
    assert row.case["choice"] == "executor"
    assert row.settings == {"auto": "resident", "fastest": "host"}
    assert row.note == "dali: no decoder"
    assert row.figures["auto_of_fastest_ratio"].median == pytest.approx((0.5 + 110 / 210) / 2)
    assert row.figures["host_images_per_second"].median == 205.0
    assert set(row.figures) <= set(LAYOUT.columns or ())
