"""The step that diverged is found from the checkpoint, and the run stays as it is."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from slipform.pipelines.errors import ConfigError, DatasetError, SlipformError
from slipform.train.cli import replay
from slipform.train.config.run_config import RunConfig
from slipform.train.records import read_metrics
from slipform.train.replay.divergence import find_divergence
from slipform.train.run import loop, record, steps
from slipform.train.run.checkpoint import checkpoints, step_of
from slipform.train.run.divergence import Diverged
from slipform.train.run.folder import run_config
from slipform.train.run.loop import fit
from slipform.train.run.starts import STARTS
from tests.train.replay.conftest import Finished, Seen, content

Small = Callable[..., RunConfig]
pytestmark = pytest.mark.usefixtures("no_figures")
LIKE_THESE = ((10, "weights"), (3, "loss"), (3, "statistics"), (10, "statistics"))


def _poison(monkeypatch: pytest.MonkeyPatch, step: int, where: str) -> None:
    """From its weights or its loss on, a step is not finite; so it is when it is trained again."""
    original = steps.train_step  # type: ignore[attr-defined]

    def wrapped(state: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(state, *args, **kwargs)
        if state.step == step and where == "weights":
            with torch.no_grad():
                next(iter(state.model.parameters())).fill_(math.inf)
        if state.step == step and where == "statistics":
            for name, tensor in state.model.named_buffers():
                if name.endswith("running_mean"):
                    tensor.fill_(math.nan)
        if state.step == step and where == "loss":
            result.loss.fill_(math.nan)
        return result

    monkeypatch.setattr(steps, "train_step", wrapped)


@pytest.mark.parametrize(
    ("step", "where"),
    [
        *((3, "weights"), (10, "loss")),
        *(pytest.param(*x, marks=pytest.mark.slow) for x in LIKE_THESE),
    ],
)
def test_the_first_step_that_is_not_finite(
    step: int, where: str, shapes: Path, tmp_path: Path, small: Small,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Steps 3 and 10: before the first checkpoint, and in the second epoch. Losses are read each
    fifth step, so the run notices it later. Wrong statistics of a batch norm change no step, but
    the loss of the validation."""
    run = tmp_path / "run"
    config = small("train.log_every_steps=5", "train.checkpoint_every_steps=0")
    with monkeypatch.context() as patch:
        _poison(patch, step, where)
        with pytest.raises(Diverged):
            fit(config, shapes, run, device="cpu", quiet=True)
        before = content(run)
        found = find_divergence(run, config.replace("data.folder", str(shapes)), "cpu")
    assert found.step == step
    assert found.what.startswith("the loss is nan" if where == "loss" else "weights are not finite")
    assert all(tensor.isfinite().all() for tensor in found.weights.values())
    assert content(run) == before


def test_a_rate_that_is_too_high(shapes: Path, tmp_path: Path, small: Small, seen: Seen) -> None:
    """A real one: the sheet shows the batch of the first loss that is not finite."""
    run = tmp_path / "run"
    config = small("optimizer.lr=1e20", "train.log_every_steps=4")
    with pytest.raises(Diverged):
        fit(config, shapes, run, device="cpu", quiet=True)
    recorded = read_metrics(run, "diverged")[-1]["what"]
    out = tmp_path / "out"
    arguments = [str(run), "--to-divergence", "--out", str(out), "--device", "cpu"]
    done = CliRunner().invoke(replay, arguments)
    assert done.exit_code == 0, done.output
    step = int(done.output.split("step ", 1)[1].split(":")[0])
    what = done.output.split(f"step {step}: ", 1)[1]
    losses = [x["loss"] for x in read_metrics(run, "step")]
    assert all(map(math.isfinite, losses))
    # The run notices it by a loss that it reads later, or by the weights before a checkpoint.
    if what.startswith("the loss is "):
        assert step == len(losses) + 1
        assert f"the loss of step {step} is" in recorded
    else:
        assert what.startswith("weights are not finite after it: ")
        assert step == len(losses)
    assert (out / f"replay-step-{step:08d}.png").exists()
    assert f"step {step}, epoch 1: 40 images" in done.output
    assert "with the weights of the state before the step" in done.output


def test_a_run_that_is_finite_here(
    shapes: Path, tmp_path: Path, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, config = tmp_path / "run", small("train.epochs=1")
    with monkeypatch.context() as patch:
        _poison(patch, 3, "loss")
        with pytest.raises(Diverged):
            fit(config, shapes, run, device="cpu", quiet=True)
    with pytest.raises(ConfigError, match="finite on this machine"):
        find_divergence(run, config.replace("data.folder", str(shapes)), "cpu")


def _diverged(run: Path, data: Path, config: RunConfig) -> None:
    with pytest.raises(Diverged):
        fit(config, data, run, device="cpu", quiet=True)


def test_only_the_number_of_processes_of_the_run_is_accepted(
    shapes: Path, tmp_path: Path, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    _diverged(run, shapes, small("optimizer.lr=1e20"))
    text = (run / STARTS).read_text()
    (run / STARTS).write_text(text.replace('"world_size": 1', '"world_size": 2'))
    line = f"torchrun --nproc-per-node 2 --no-python slipform replay {run} --to-divergence"
    with pytest.raises(ConfigError, match=line):
        find_divergence(run, run_config(run), "cpu")
    monkeypatch.setenv("WORLD_SIZE", "2")
    for asked in (("--step", "1"), ("--epoch", "1", "--sample", "0"), ("--diff", str(run))):
        done = CliRunner().invoke(replay, [str(run), *asked])
        assert done.exit_code == 1
        assert "run it without torchrun" in done.output


def test_nothing_is_sent_to_trackers(
    shapes: Path, tmp_path: Path, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run would appear there."""
    run = tmp_path / "run"
    opened: list[str] = []
    _diverged(run, shapes, small("optimizer.lr=1e20", 'records.sinks=["csv"]'))

    def open_sinks(sinks: list[str], place: object) -> list[object]:
        opened.extend(sinks)
        return []

    monkeypatch.setattr(record, "open_sinks", open_sinks)
    find_divergence(run, run_config(run), "cpu")
    assert opened == []


def test_a_damaged_checkpoint_is_passed_over(
    shapes: Path, tmp_path: Path, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    _poison(monkeypatch, 10, "loss")
    _diverged(run, shapes, small())
    saved = checkpoints(run)
    assert list(map(step_of, saved))[:2] == [8, 6]
    saved[0].write_bytes(saved[0].read_bytes()[:-1])
    assert find_divergence(run, run_config(run), "cpu").step == 10
    for path in saved:
        path.write_bytes(b"")
    with pytest.raises(SlipformError, match="every checkpoint in"):
        find_divergence(run, run_config(run), "cpu")


@pytest.mark.slow
def test_an_epoch_that_ends_after_an_older_checkpoint_ends_as_in_the_run(
    shapes: Path, tmp_path: Path, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It restores the weights of the best epoch. Steps 9 to 12 end epoch 2; epoch 1 is the best."""
    run, kept = tmp_path / "run", []

    def first_is_best(opened: Any, line: dict[str, Any]) -> bool:
        return bool(opened.state.is_best(1 / line["epoch"]))

    monkeypatch.setattr(loop, "_is_best", first_is_best)
    _poison(monkeypatch, 14, "loss")
    original = steps.train_step  # type: ignore[attr-defined]

    def keep(state: Any, *args: Any) -> Any:
        if state.step == 13:
            kept.append({name: x.clone() for name, x in state.model.state_dict().items()})
        return original(state, *args)

    monkeypatch.setattr(steps, "train_step", keep)
    _diverged(run, shapes, small("train.epochs=3", "train.restart_from_best_after=1"))
    saved = checkpoints(run)
    assert list(map(step_of, saved)) == [12, 8, 6, 4]
    saved[0].write_bytes(b"")
    found = find_divergence(run, run_config(run), "cpu")
    assert found.step == 14
    assert found.weights.keys() == kept[0].keys()
    assert all(torch.equal(tensor, kept[0][name]) for name, tensor in found.weights.items())


def test_steps_that_had_other_settings_are_not_trained_again(
    shapes: Path,
    tmp_path: Path,
    small: Small,
    trained: Callable[..., Finished],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = trained("train.epochs=1").copied(tmp_path / "run")
    _poison(monkeypatch, 8, "loss")
    with pytest.raises(Diverged):
        fit(small("optimizer.lr=0.01"), shapes, run, device="cpu", quiet=True, resume=True)
    newest, *_ = checkpoints(run)
    assert step_of(newest) == 6
    assert find_divergence(run, run_config(run), "cpu").step == 8
    newest.write_bytes(b"")
    with pytest.raises(SlipformError, match=r"resumed with other settings after step 6.*damage"):
        find_divergence(run, run_config(run), "cpu")


def test_a_dataset_that_is_gone_or_changed_is_asked_for(
    shapes: Path, shapes_raw: Path, tmp_path: Path, small: Small
) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(shapes, data)
    _diverged(run, data, small("optimizer.lr=1e20"))
    data.rename(tmp_path / "moved")
    with pytest.raises(DatasetError, match=r"is not a folder, .* by --data"):
        find_divergence(run, run_config(run), "cpu")
    shutil.copytree(shapes_raw, data)
    with pytest.raises(DatasetError, match=r"has other training images .* by --data"):
        find_divergence(run, run_config(run), "cpu")
    moved = run_config(run).replace("data.folder", str(tmp_path / "moved"))
    assert find_divergence(run, moved, "cpu").step > 0


@pytest.mark.slow
def test_the_settings_are_those_of_the_last_resume(
    shapes: Path, tmp_path: Path, trained: Callable[..., Finished]
) -> None:
    run = trained("train.epochs=1").copied(tmp_path / "run")
    changed = run_config(run).replace("optimizer.lr", 1e20).replace("train.epochs", 2)
    with pytest.raises(Diverged):
        fit(changed, shapes, run, device="cpu", quiet=True, resume=True)
    arguments = [str(run), "--to-divergence", "--out", str(tmp_path / "out"), "--device", "cpu"]
    done = CliRunner().invoke(replay, arguments)
    assert done.exit_code == 0, done.output
    step = int(done.output.split("step ", 1)[1].split(":")[0])
    assert 7 <= step <= 9
