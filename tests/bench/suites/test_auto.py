"""`bench auto`: each fixed choice is measured, and the row has the choice of "auto" beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipform.bench.race import training_point
from slipform.bench.race.training_point import Point
from slipform.bench.suites.auto import LAYOUT, measure
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
    assert set(LAYOUT.columns) - set(figures) == {
        one for one in LAYOUT.columns if "_compiled_" in one and not compiled
    }
