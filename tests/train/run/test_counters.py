"""Counters: sums over an epoch, weighted by images, with any batch size and number of processes;
time; old checkpoints."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slipform.pipelines.errors import Interrupted
from slipform.train.config.run_config import RunConfig
from slipform.train.records import read_metrics
from slipform.train.run import steps
from slipform.train.run.counters import Counters, EpochTotals, Timing, advice
from slipform.train.run.loop import fit
from slipform.train.run.rates import rate_text

Small = Callable[..., RunConfig]


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(
    "later", [("60", 1), ("16", 3), pytest.param(("20", 1), marks=pytest.mark.slow)], ids=str
)
def test_an_epoch_of_two_batch_sizes_is_weighted_by_images(
    later: tuple[str, int],
    shapes: Path,
    small: Small,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original, seen = steps.train_step, []  # type: ignore[attr-defined]

    def watched(state: Any, *arguments: Any) -> Any:
        result = original(state, *arguments)
        seen.append((float(result.loss), int(result.correct), result.num_images))
        if state.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return result

    monkeypatch.setattr(steps, "train_step", watched)
    run, size = tmp_path / "run", f"train.batch_size={later[0]}"
    with pytest.raises(Interrupted):
        fit(small("train.epochs=1"), shapes, run, quiet=True)
    config = small("train.epochs=1", size, f"train.accumulate={later[1]}")
    fit(config, shapes, run, resume=True, quiet=True)
    (line,) = read_metrics(run, "epoch")
    losses, correct, images = map(list, zip(*seen, strict=True))
    assert images[:2] == [40, 40]
    assert len(set(images)) > 1
    weighted = sum(loss * n for loss, n in zip(losses, images, strict=True)) / sum(images)
    assert line["train_loss"] == pytest.approx(weighted, rel=1e-6)
    assert line["train_accuracy"] == pytest.approx(sum(correct) / sum(images), rel=1e-9)


def test_totals_of_several_processes_continue_with_another_number() -> None:
    """A step of 2 processes with 20 images each, then 5 steps of one process with 40 images."""
    counters = Counters()
    counters.epoch.add(loss=2.0, correct=30, images=40)
    counters = Counters.from_checkpoint({"counters": counters.state_dict()})
    for _ in range(5):
        counters.epoch.add(loss=1.0, correct=10, images=40)
    assert counters.epoch.mean_loss == pytest.approx((2.0 + 5) / 6)
    assert counters.epoch.accuracy == pytest.approx(80 / 240)


def test_counters_of_version_0_1_are_read() -> None:
    """Version 0.1 stored the loss as a sum over batches, and the time under another name."""
    running = {"train_seconds": 2.0, "wait_seconds": 1.0, "images": 120, "loss": 6.0}
    clock = {"seconds_before": 9.0, "train_seconds": 8.0, "wait_seconds": 2.0, "images": 480}
    state = {"running": {**running, "correct": 60.0, "batches": 3}, "clock": clock}
    counters = Counters.from_checkpoint({"state": state})
    assert counters.epoch == EpochTotals(2.0, 1.0, 120, loss=240.0, correct=60.0, counted=120)
    assert (counters.epoch.mean_loss, counters.epoch.accuracy) == (2.0, 0.5)
    assert isinstance(counters.timing, Timing)
    assert (counters.timing.images, counters.timing.wait_share) == (480, 0.25)


def test_rates_are_zero_without_time() -> None:
    assert (Counters().epoch.images_per_second, Counters().timing.wait_share) == (0.0, 0.0)
    assert (Counters().epoch.mean_loss, Counters().epoch.accuracy) == (0.0, 0.0)


def _advice(images: int, per_second: float, pretrained: bool = False, shown: bool = False) -> str:
    return advice(images, per_second, pretrained=pretrained, time_shown=shown)


def test_a_long_run_gets_an_estimate_and_advice() -> None:
    assert _advice(5000, 10.0) == ""
    assert _advice(5000, 0.0) == ""
    text = _advice(60_000, 10.0)
    assert text.startswith("about 1 h 40 min left at 10 images/s")
    assert "--recipe finetune" in text
    assert "finetune" not in _advice(60_000, 10.0, pretrained=True)


def test_the_time_left_is_not_repeated_below_a_progress_line() -> None:
    text = _advice(60_000, 10.0, shown=True)
    assert "1 h" not in text
    assert "--recipe finetune" in text


def test_the_share_of_the_cores_that_others_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of 10 s with 4 CPU seconds of others, resumed for 10 s with 16 CPU seconds: 1 of 4."""
    others, now = 100.0, 50.0
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    monkeypatch.setattr("time.perf_counter", lambda: now)
    monkeypatch.setattr("slipform.train.run.counters.others_cpu_seconds", lambda: others)
    first = Counters(Timing(began=now, others_began=others))
    others, now = 104.0, 60.0
    assert first.timing.others_share == pytest.approx(0.1)
    saved = first.state_dict()
    others, now = 500.0, 90.0  # other processes computed while the run waited to be resumed
    second = Counters.from_checkpoint({"counters": saved})
    second.timing.began, second.timing.others_began = now, others
    others, now = 516.0, 100.0
    assert second.timing.others_share == pytest.approx(20 / 20 / 4)
    del saved["timing"]["others_before"]  # of an older version
    assert Counters.from_checkpoint({"counters": saved}).timing.others_share is None


def test_waiting_between_two_steps_counts_once() -> None:
    """`timed` measures the time between two batches as training, also if it is waiting."""

    class Batches(list[Any]):
        global_batch_size = 4

    counters = Counters()
    counters.waited(3.0)  # before the first batch
    batches = counters.timed(Batches([1, 2]))  # type: ignore[arg-type]
    next(batches)
    counters.waited(2.0)
    for span in (counters.timing, counters.epoch):
        assert span.wait_seconds >= 5.0
        assert span.wait_seconds == pytest.approx(span.train_seconds + 2.0)


def test_a_slow_speed_keeps_two_digits() -> None:
    texts = [rate_text(value) for value in (0.1762, 1.72, 9.96, 48.4, 15679.0)]
    assert texts == [f"{one} images/s" for one in ("0.18", "1.7", "10", "48", "15,679")]
