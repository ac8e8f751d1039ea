"""The first difference of two runs: its step, and whether it is order, plan, pixels or weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from slipform.train.cli import replay
from slipform.train.config.run_config import RunConfig
from slipform.train.replay.difference import first_difference
from slipform.train.run import steps
from slipform.train.run.loop import fit
from slipform.train.run.starts import STARTS

Small = Callable[..., RunConfig]
pytestmark = pytest.mark.usefixtures("no_figures")
BASE = ("augment.mixup=0.4", "train.epochs=1")


@pytest.fixture
def base(shapes: Path, tmp_path: Path, small: Small) -> Path:
    fit(small(*BASE), shapes, tmp_path / "base", device="cpu", quiet=True)
    return tmp_path / "base"


@pytest.mark.parametrize(
    ("sets", "step", "what"),
    [
        ((), None, ""),
        (("train.seed=1",), 1, "order"),
        (("train.batch_size=20",), 1, "order"),
        (("data.block=16",), 1, "order"),
        (("augment.color_jitter.hue=0.1",), 1, "plan"),
        (("augment.mixup=0.5",), 1, "plan"),
        (("augment.flip=horizontal",), 1, "plan"),
        (("train.precision=bf16",), 1, "pixels"),
        (("model.options.width=8",), 1, "weights"),
        (("optimizer.lr=0.021",), 2, "weights"),
        (("loss.label_smoothing=0.1",), 1, "weights"),
        (("data.executor=resident",), None, ""),
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


def test_pixels_that_differ_from_a_resume_on(shapes: Path, tmp_path: Path, small: Small) -> None:
    """Images of another type, long after the first steps."""
    base, other = tmp_path / "base", tmp_path / "other"
    fit(small(), shapes, base, device="cpu", quiet=True)
    shutil.copytree(base, other)
    for path in (other / "checkpoints").iterdir():
        if int(path.name.split("-")[1]) > 8:
            path.unlink()
    (other / "summary.json").unlink()
    fit(small("train.precision=bf16"), shapes, other, device="cpu", quiet=True, resume=True)
    found = first_difference(base, other)
    assert (found.step, found.what) == (9, "pixels"), found.text
    assert "train.precision" in found.settings


def test_policies_that_differ(base: Path, shapes: Path, tmp_path: Path, small: Small) -> None:
    """Their operations stand in a dataclass of arrays."""
    runs = []
    for magnitude in (5, 6):
        policy = ("augment.policy.name=rand_augment", f"augment.policy.magnitude={magnitude}")
        runs.append(tmp_path / f"magnitude-{magnitude}")
        fit(small(*BASE, *policy), shapes, runs[-1], device="cpu", quiet=True)
    found = first_difference(*runs)
    assert (found.step, found.what, found.text) == (1, "plan", "chains differs")


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
