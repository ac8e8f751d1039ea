"""Runs whose batches were kept while they trained."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
from slipform.train.run.loop import fit
from tests.train.drawing import without_figures

Seen = dict[int, list[Batch]]
_TRAIN_STEP = steps.train_step  # type: ignore[attr-defined]

SMALL = (
    "model.name=tiny", "augment.image_size=24", "augment.resize=28", "augment.crop=random_resized",
    "train.batch_size=40", "train.epochs=2", "train.precision=fp32", "train.log_every_steps=1",
    "train.checkpoint_every_steps=4", "train.keep_checkpoints=50", "data.threads=1",
    "data.executor=host", "optimizer.lr=0.02",
)  # fmt: skip


@pytest.fixture(scope="session")
def small() -> Callable[..., RunConfig]:
    """Settings of a run that takes seconds: 6 steps in each of 2 epochs."""
    return lambda *sets: resolve(None, [*SMALL, *sets])


@contextmanager
def kept_batches() -> Iterator[Seen]:
    """The batches of each step that trains within the context, by the number of the step.

    A context inside another one keeps its batches alone: a test may be the first that needs a run
    of `trained`.
    """
    kept: Seen = {}

    def watched(state, batches, count=1, *more):  # type: ignore[no-untyped-def]
        kept[state.step + 1] = []
        for _ in range(count):  # the next one overwrites the images
            one = next(batches)
            copy = Batch(one.images.clone(), one.labels.clone(), one.indices.clone(), one.mix)
            kept[state.step + 1].append(copy)
        return _TRAIN_STEP(state, iter(kept[state.step + 1]), count, *more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "train_step", watched)
        yield kept


@pytest.fixture
def seen() -> Iterator[Seen]:
    """The batches of each step that trains during the test, by the number of the step."""
    with kept_batches() as kept:
        yield kept


@dataclass(frozen=True)
class Finished:
    """A finished run, which tests must not change.

    Attributes:
        run: Its folder.
        seen: The batches of its steps.
    """

    run: Path
    seen: Seen

    def copied(self, to: Path) -> Path:
        """A copy of the run for one test.

        Args:
            to: The new folder.
        """
        return Path(shutil.copytree(self.run, to))


@pytest.fixture(scope="session")
def trained(
    shapes: Path, small: Callable[..., RunConfig], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Finished]]:
    """trained("train.epochs=1"): the run with these settings, which is trained only once."""
    runs: dict[tuple[str, ...], Finished] = {}
    before: dict[Path, dict[str, str]] = {}

    def one(*sets: str) -> Finished:
        if sets not in runs:
            out = tmp_path_factory.mktemp("trained") / "run"
            with pytest.MonkeyPatch.context() as patch, kept_batches() as kept:
                without_figures(patch)
                fit(small(*sets), shapes, out, device="cpu", quiet=True)
            runs[sets], before[out] = Finished(out, kept), content(out)
        return runs[sets]

    yield one
    for run, files in before.items():
        assert content(run) == files, f"a test changed {run}: it must work on a copy"


def content(run: Path) -> dict[str, str]:
    """The checksums of the files of a run."""
    return {
        str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(run.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


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
