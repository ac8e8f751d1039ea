"""`bench distill`: three ways of training the same student, and the size of a stored answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from slipform.bench.suites.distill import measure
from slipform.train.config.run_config import RunConfig
from slipform.train.run.loop import fit
from tests.train.conftest import SMALL, no_figures, small

__all__ = ["SMALL", "no_figures", "small"]


def test_three_ways_are_measured_and_the_run_of_the_teacher_does_not_change(
    small: Callable[..., RunConfig], shapes: Path, tmp_path: Path, no_figures: None
) -> None:
    teacher = tmp_path / "teacher"
    fit(small("train.epochs=1"), shapes, teacher, device="cpu", quiet=True)
    before = sorted(teacher.rglob("*"))
    found = measure(small("distill.top=2"), shapes, teacher, "cpu", rounds=2, steps=2)
    assert list(found) == ["no teacher", "stored answers", "teacher in every step"]
    for figures in found.values():
        assert figures["images_per_second"].repeats == 2
    assert found["no teacher"]["without_teacher_ratio"].median == 1
    # Two classes in 1 byte each, their logarithms and that of the others in 2.
    assert found["stored answers"]["answer_bytes"].median == 2 * 1 + 3 * 2
    assert sorted(teacher.rglob("*")) == before
