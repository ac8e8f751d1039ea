"""Runs whose batches were kept while they trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from slipform.pipelines.batch import Batch
from slipform.train.config.resolve import resolve
from slipform.train.config.run_config import RunConfig
from slipform.train.replay.batches import replayed
from slipform.train.replay.history import history, place_of_step
from slipform.train.run import steps
from slipform.train.run.checkpoint import step_of

Seen = dict[int, list[Batch]]

SMALL = (
    "model.name=tiny", "augment.image_size=24", "augment.resize=28", "augment.crop=random_resized",
    "train.batch_size=40", "train.epochs=2", "train.precision=fp32", "train.log_every_steps=1",
    "train.checkpoint_every_steps=4", "train.keep_checkpoints=50", "data.threads=1",
    "data.executor=host", "optimizer.lr=0.02",
)  # fmt: skip


@pytest.fixture
def small() -> Callable[..., RunConfig]:
    """Settings of a run that takes seconds: 6 steps in each of 2 epochs."""
    return lambda *sets: resolve(None, [*SMALL, *sets])


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """The batches of each step that trains during the test, by the number of the step."""
    kept: Seen = {}
    original = steps.train_step  # type: ignore[attr-defined]

    def watched(state, batches, count=1, *more):  # type: ignore[no-untyped-def]
        kept[state.step + 1] = []
        for _ in range(count):  # the next one overwrites the images
            one = next(batches)
            copy = Batch(one.images.clone(), one.labels.clone(), one.indices.clone(), one.mix)
            kept[state.step + 1].append(copy)
        return original(state, iter(kept[state.step + 1]), count, *more)

    monkeypatch.setattr(steps, "train_step", watched)
    return kept


def assert_same(found: Batch, expected: Batch) -> None:
    """All tensors of two batches are equal, bit for bit."""
    assert torch.equal(found.images, expected.images)
    assert torch.equal(found.labels, expected.labels)
    assert torch.equal(found.indices, expected.indices)
    assert (found.mix is None) == (expected.mix is None)
    if found.mix is not None:
        assert torch.equal(found.mix.labels, expected.mix.labels)
        assert torch.equal(found.mix.weight, expected.mix.weight)


def assert_all(run: Path, seen: Seen) -> None:
    """All replayed batches of a run are those that its steps saw."""
    segments = history(run)
    for step, batches in seen.items():
        made = replayed(place_of_step(segments, step), torch.device("cpu"))
        assert made.exact
        ((*found,),) = made.batches
        assert len(found) == len(batches)
        for one, expected in zip(found, batches, strict=True):
            assert_same(one, expected)


def forget_after(run: Path, step: int) -> None:
    """As if the run had been killed after the checkpoint of a step."""
    for path in (run / "checkpoints").iterdir():
        if step_of(path) > step:
            path.unlink()
    (run / "summary.json").unlink(missing_ok=True)
