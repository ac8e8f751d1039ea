"""The first difference of two runs: its step, and what it is, such as order, plan or pixels."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from slipform.bench.race.flipped import flip_labels
from slipform.pipelines import submitter
from slipform.train.cli import replay
from slipform.train.config.run_config import RunConfig
from slipform.train.replay.batches import replayed, tensors
from slipform.train.replay.difference import _Side, first_difference
from slipform.train.replay.history import history, place_of_step
from slipform.train.run import steps
from slipform.train.run.loop import fit
from slipform.train.run.starts import STARTS
from tests.train.replay.conftest import Finished, Seen, forget_after

Small = Callable[..., RunConfig]
Trained = Callable[..., Finished]
pytestmark = pytest.mark.usefixtures("no_figures")
BASE = ("augment.mixup=0.4", "train.epochs=1")
CPU = torch.device("cpu")
slow = partial(pytest.param, marks=pytest.mark.slow)


@pytest.fixture
def base(trained: Trained) -> Path:
    return trained(*BASE).run


@pytest.mark.parametrize(
    ("sets", "step", "what"),
    [
        ((), None, ""),
        slow(("train.seed=1",), 1, "order"),
        (("train.batch_size=20",), 1, "order"),
        slow(("data.block=16",), 1, "order"),
        slow(("augment.color_jitter.hue=0.1",), 1, "plan"),
        (("augment.mixup=0.5",), 1, "plan"),
        slow(("augment.flip=horizontal",), 1, "plan"),
        (("train.precision=bf16",), 1, "pixels"),
        slow(("model.options.width=8",), 1, "weights"),
        (("optimizer.lr=0.021",), 2, "weights"),
        slow(("loss.label_smoothing=0.1",), 1, "weights"),
        slow(("data.executor=resident",), None, ""),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else str(value),
)
def test_the_first_difference(
    sets: tuple[str, ...], step: int | None, what: str, base: Path, shapes: Path, tmp_path: Path,
    small: Small,
) -> None:  # fmt: skip
    fit(small(*BASE, *sets), shapes, tmp_path / "other", device="cpu", quiet=True)
    found = first_difference(base, tmp_path / "other")
    assert (found.step, found.what) == (step, what), found.text
    assert found.num_steps == 6
    given = {".".join(text.split("=")[0].split(".")[:2]) for text in sets}
    assert set(found.settings) == (given if step else set())
    assert found.text


def test_labels_that_differ(base: Path, shapes: Path, tmp_path: Path, small: Small) -> None:
    """The images of both datasets are equal. The step is the first that saw a changed label."""
    wrong = set(flip_labels(shapes, tmp_path / "flipped", 0.005, seed=2).tolist())
    fit(small(*BASE), tmp_path / "flipped", tmp_path / "other", device="cpu", quiet=True)
    segments = history(base)
    batches = {s: replayed(place_of_step(segments, s), CPU).together() for s in range(1, 7)}
    step = next(s for s, batch in batches.items() if wrong & set(batch.indices.tolist()))
    found = first_difference(base, tmp_path / "other")
    assert (found.step, found.what) == (step, "labels"), found.text
    seen = [i for i in batches[step].indices.tolist() if i in wrong]
    assert found.text == (
        f"{len(seen)} of 40 images have other labels, the first of them is {seen[0]}"
    )


def test_datasets_that_have_moved(
    base: Path, shapes: Path, shapes_raw: Path, tmp_path: Path, small: Small
) -> None:
    """--data is the folder of each run that had its images."""
    data, moved = tmp_path / "data", tmp_path / "moved"
    shutil.copytree(shapes, data)
    runs = [tmp_path / "one", tmp_path / "two"]
    for run, lr in zip(runs, (0.02, 0.03), strict=True):
        fit(small(*BASE, f"optimizer.lr={lr}"), data, run, device="cpu", quiet=True)
    data.rename(moved)

    def diff(run: Path, other: Path, *more: str) -> tuple[int, str]:
        done = CliRunner().invoke(replay, [str(run), "--diff", str(other), *more])
        return done.exit_code, done.output

    code, printed = diff(*runs)
    assert code == 1
    assert f"{data} is not a folder" in printed
    assert "give the folder with the run's dataset by --data" in printed
    assert diff(*runs, "--data", str(moved))[1].startswith("step 2: weights differ:")
    assert diff(base, runs[1], "--data", str(moved))[1].startswith("step 2: weights differ:")
    code, printed = diff(*runs, "--data", str(shapes_raw))
    assert code == 1
    assert f"{shapes_raw} has other training images than the run had" in printed


def test_weights_that_change_in_the_middle(
    base: Path, shapes: Path, tmp_path: Path, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bit that a machine flips after step 3 changes the loss of step 4."""
    original = steps.train_step  # type: ignore[attr-defined]

    def wrapped(state: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(state, *args, **kwargs)
        if state.step == 3:
            with torch.no_grad():
                next(iter(state.model.parameters())).add_(0.01)
        return result

    with monkeypatch.context() as patch:
        patch.setattr(steps, "train_step", wrapped)
        fit(small(*BASE), shapes, tmp_path / "other", device="cpu", quiet=True)
    found = first_difference(base, tmp_path / "other")
    assert (found.step, found.what) == (4, "weights")
    assert found.settings == {}


def test_a_resume_with_another_augmentation(
    base: Path, shapes: Path, tmp_path: Path, small: Small
) -> None:
    """The difference begins where the run was resumed."""
    other = tmp_path / "other"
    shutil.copytree(base, other)
    for path in (other / "checkpoints").iterdir():
        if "step-00000004" not in path.name:
            path.unlink()
    (other / "summary.json").unlink()
    sets = (*BASE, "augment.color_jitter.hue=0.1")
    fit(small(*sets), shapes, other, device="cpu", quiet=True, resume=True)
    assert len((other / STARTS).read_text().splitlines()) == 2
    done = CliRunner().invoke(replay, [str(base), "--diff", str(other)])
    assert done.exit_code == 0, done.output
    assert done.output.startswith("step 5: plan differs: color differs for ")
    assert "augment.color_jitter" in done.output


@pytest.mark.slow
def test_pixels_that_differ_from_a_resume_on(
    shapes: Path, tmp_path: Path, small: Small, trained: Trained
) -> None:
    """Images of another type, long after the first steps."""
    base, other = trained().run, trained().copied(tmp_path / "other")
    forget_after(other, 8)
    fit(small("train.precision=bf16"), shapes, other, device="cpu", quiet=True, resume=True)
    found = first_difference(base, other)
    assert (found.step, found.what) == (9, "pixels"), found.text
    assert "train.precision" in found.settings


@pytest.mark.slow
def test_policies_that_differ(base: Path, shapes: Path, tmp_path: Path, small: Small) -> None:
    """Their operations stand in a dataclass of arrays."""
    runs = []
    for magnitude in (5, 6):
        policy = ("augment.policy.name=rand_augment", f"augment.policy.magnitude={magnitude}")
        runs.append(tmp_path / f"magnitude-{magnitude}")
        fit(small(*BASE, *policy), shapes, runs[-1], device="cpu", quiet=True)
    found = first_difference(*runs)
    assert (found.step, found.what, found.text) == (1, "plan", "chains differs")


@pytest.mark.slow
def test_first_weights_whose_file_is_gone(
    base: Path, shapes: Path, tmp_path: Path, small: Small
) -> None:
    runs, weights = [tmp_path / "one", tmp_path / "two"], tmp_path / "weights"
    shutil.copytree(base, weights)
    for run, rate in zip(runs, (0.02, 0.03), strict=True):
        sets = (*BASE, f"model.weights={weights}", f"optimizer.lr={rate}")
        fit(small(*sets), shapes, run, device="cpu", quiet=True)
    shutil.rmtree(weights)
    found = first_difference(*runs)
    assert (found.step, found.what) == (2, "weights")


def test_drawn_samples_have_plans_of_their_positions(
    shapes: Path, tmp_path: Path, small: Small, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sample that is drawn twice has two crops. The compared Plan is the one of the loader."""
    given: list[tuple[list[int], Any]] = []
    original = submitter.draw  # type: ignore[attr-defined]

    def noted(augment: Any, keys: Any, *rest: Any) -> Any:
        plan = original(augment, keys, *rest)
        # The loader also begins the next epoch, and that of the val split draws centers.
        if rest[-1] == 0 and augment.crop == "random_resized":
            given.append((list(keys), plan.geometry))
        return plan

    monkeypatch.setattr(submitter, "draw", noted)
    run = tmp_path / "run"
    fit(small("data.sampling=balanced", "train.epochs=1"), shapes, run, device="cpu", quiet=True)
    trained = {key: row for keys, rows in given for key, row in zip(keys, rows, strict=True)}
    segments = history(run)
    with ExitStack() as held:
        side = _Side(segments, held)
        for step, batches in seen.items():
            samples, keys = side.samples(place_of_step(segments, step))
            assert samples.tolist() == batches[0].indices.tolist()
            geometry = side.plan(place_of_step(segments, step)).geometry
            assert np.array_equal(geometry, [trained[key] for key in keys.tolist()])
    assert len(np.unique(samples)) < len(samples)
    assert first_difference(run, run).step is None


@pytest.mark.parametrize("mixed", [False, slow(True)])
def test_the_order_does_not_depend_on_the_number_of_processes(
    mixed: bool, shapes: Path, tmp_path: Path, small: Small, seen: Seen
) -> None:
    """Two processes with half of the batch see the same samples in the same order, also with
    several batches in a step. The partners of MixUp are others."""
    one, two = tmp_path / "one", tmp_path / "two"
    sets = ("train.epochs=1", "train.accumulate=3", f"augment.mixup={0.4 * mixed}")
    fit(small(*sets), shapes, one, device="cpu", quiet=True)
    shutil.copytree(one, two)
    text = (two / STARTS).read_text().replace('"world_size": 1', '"world_size": 2')
    (two / STARTS).write_text(text.replace("batch_size = 40", "batch_size = 20"))
    made = replayed(place_of_step(history(two), 2), torch.device("cpu"))
    expected = torch.cat([batch.indices for batch in seen[2]])
    assert torch.equal(made.together().indices, expected)
    assert tensors(made)["rank"].tolist() == ([0] * 20 + [1] * 20) * 3
    found = first_difference(one, two)
    assert (found.step, found.what) == ((1, "plan") if mixed else (None, "")), found.text


def test_runs_without_a_common_step(base: Path, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "empty")
    (tmp_path / "empty/metrics.jsonl").unlink()
    found = first_difference(base, tmp_path / "empty")
    assert (found.step, found.num_steps) == (None, 0)
