"""Kernels are compiled before the training time starts, and do not change the results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slipform.pipelines.loader import Loader
from slipform.train.config.run_config import RunConfig
from slipform.train.records import read_metrics
from slipform.train.run import finish, training_data
from slipform.train.run.counters import Counters
from slipform.train.run.loop import fit
from slipform.train.step import data

Small = Callable[..., RunConfig]


@pytest.mark.usefixtures("no_figures")
def test_the_first_batch_is_made_before_the_clock_starts(
    shapes: Path, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    events: list[str] = []
    made, timed = training_data.first_images, Counters.timed

    def noted_images(loader: Loader) -> object:
        events.append("first batch")
        return made(loader)

    def noted_clock(self: Counters, loader: Loader) -> object:
        events.append("clock")
        return timed(self, loader)

    config = small("train.epochs=1")
    monkeypatch.setattr(training_data, "first_images", noted_images)
    monkeypatch.setattr(Counters, "timed", noted_clock)
    losses = {}
    for compiled in (True, False):
        monkeypatch.setattr(training_data, "are_compiled", lambda augment, known=compiled: known)
        run = tmp_path / str(compiled)
        fit(config, shapes, run, device="cpu")
        said = capsys.readouterr().err.count("compiling the kernels")
        assert said == (0 if compiled else 1)
        losses[compiled] = [line["loss"] for line in read_metrics(run, "step")]
    assert events == ["first batch", "clock"] * 2
    assert losses[True] == losses[False]
    assert losses[True]


@pytest.mark.usefixtures("no_figures")
def test_a_resumed_run_keeps_the_executor_that_auto_chose(
    shapes: Path, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The free memory may have changed, and executors may differ by rounding."""
    config = small("data.executor=auto", "train.epochs=1")
    assert fit(config, shapes, tmp_path, device="cpu", quiet=True)["executor"] == "resident"
    (tmp_path / "summary.json").unlink()
    monkeypatch.setattr("slipform.pipelines.executors.free_memory_bytes", lambda device: 0)
    again = config.replace("train.epochs", 2)
    summary = fit(again, shapes, tmp_path, device="cpu", quiet=True, resume=True)
    assert (summary["executor"], summary["epochs"]) == ("resident", 2)
    fresh = fit(config, shapes, tmp_path / "fresh", device="cpu", quiet=True)
    assert fresh["executor"] == "host"


@pytest.mark.usefixtures("no_figures")
def test_a_resumed_run_keeps_the_executors_of_the_evaluation(
    shapes: Path, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """host decodes large photos at a part of their size, and resident does not."""
    opened, open_loader = list[tuple[str, str]](), data.open_loader

    def noted(config: RunConfig, split: str, *rest: Any, **options: Any) -> Loader:
        loader = open_loader(config, split, *rest, **options)
        opened.append((split, loader.executor_name))
        return loader

    for module in (training_data, finish):
        monkeypatch.setattr(module, "open_loader", noted)
    config = small("data.executor=auto", "train.epochs=1")
    fit(config, shapes, tmp_path, device="cpu", quiet=True)
    monkeypatch.setattr("slipform.pipelines.executors.free_memory_bytes", lambda device: 0)
    again = config.replace("train.epochs", 2)
    fit(again, shapes, tmp_path, device="cpu", quiet=True, resume=True)
    first = [("train", "resident"), ("val", "resident"), ("test", "resident")]
    assert opened == first * 2
    opened.clear()
    fit(config, shapes, tmp_path / "fresh", device="cpu", quiet=True)
    assert opened == [(split, "host") for split, _ in first]
