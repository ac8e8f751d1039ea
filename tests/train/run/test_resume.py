"""A run that was stopped or killed resumes like an undisturbed one, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from slipform.pipelines.errors import ConfigError, Interrupted
from slipform.train.config.run_config import RunConfig
from slipform.train.records import read_metrics
from slipform.train.run import checkpoint
from slipform.train.run.loop import fit
from tests.train.drawing import without_figures
from tests.train.run.interrupted import Killed, assert_same, at_step, kill, terminate

pytestmark = pytest.mark.usefixtures("no_figures")
Small = Callable[..., RunConfig]
# Everything that has a state: momentum, averaged weights, dropout, a schedule, clipping.
RICH = (
    "model.name=cnn",
    "model.head=mlp",
    "schedule.name=one_cycle",
    "train.ema=0.9",
    "train.clip_norm=5.0",
    "train.epochs=2",
    "augment.color_jitter.hue=0.1",
    "train.restart_from_best_after=1",
)


@pytest.fixture(scope="module")
def undisturbed(shapes: Path, small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        without_figures(patch)
        fit(small(*RICH), shapes, run, quiet=True)
    return run


@pytest.mark.parametrize("step", [0, 2, *(pytest.param(n, marks=pytest.mark.slow) for n in (5, 9))])
def test_several_steps_in_a_launch_give_the_same_run(
    step: int,
    undisturbed: Path,
    shapes: Path,
    small: Small,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    no_figures: None,
) -> None:
    """Also if the run is stopped within a launch, which is then finished. 0: never stopped."""
    config, run = small(*RICH, "train.steps_per_launch=4"), tmp_path / "run"
    if step:
        at_step(monkeypatch, step, terminate)
        with pytest.raises(Interrupted):
            fit(config, shapes, run, quiet=True)
    fit(config, shapes, run, resume=step > 0, quiet=True)
    assert_same(undisturbed, run)


@pytest.mark.parametrize(
    "step",
    # In the first epoch, and after the first step of the second one.
    [pytest.param(n, marks=() if n in (3, 7) else pytest.mark.slow) for n in range(1, 13)],
)
def test_terminated_after_any_step_and_resumed(
    step: int,
    undisturbed: Path,
    shapes: Path,
    small: Small,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, run = small(*RICH), tmp_path / "run"
    at_step(monkeypatch, step, terminate)
    with pytest.raises(Interrupted, match=f"after step {step};.*--resume"):
        fit(config, shapes, run, quiet=True)
    fit(config, shapes, run, resume=True, quiet=True)
    assert_same(undisturbed, run)


def test_killed_several_times_and_resumed(
    undisturbed: Path, shapes: Path, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, run = small(*RICH, "train.checkpoint_every_steps=2"), tmp_path / "run"
    for resume, step in enumerate((1, 3, 6, 7, 11)):
        at_step(monkeypatch, step, kill)
        with pytest.raises(Killed):
            fit(config, shapes, run, resume=resume > 0, quiet=True)
    fit(config, shapes, run, resume=True, quiet=True)
    assert_same(undisturbed, run)


def test_accumulated_steps_resume_too(
    shapes: Path, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(
        "train.accumulate=2", "train.batch_size=16", "train.epochs=1"
    )  # 15 batches: 7 pairs and a single one
    fit(config, shapes, tmp_path / "whole", quiet=True)
    assert len(read_metrics(tmp_path / "whole", "step")) == 8
    at_step(monkeypatch, 5, terminate)
    with pytest.raises(Interrupted):
        fit(config, shapes, tmp_path / "run", quiet=True)
    fit(config, shapes, tmp_path / "run", resume=True, quiet=True)
    assert_same(tmp_path / "whole", tmp_path / "run")


def _as_if_two_processes(run: Path) -> None:
    """Give the newest checkpoint the random numbers of two processes."""
    saved = checkpoint.load_newest(run, pytest.fail)
    assert saved is not None
    saved["random"] *= 2
    checkpoint.save(run, saved["state"]["step"], saved, keep=1)


def test_resumed_with_other_settings(
    shapes: Path,
    small: Small,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    at_step(monkeypatch, 2, terminate)
    with pytest.raises(Interrupted):
        fit(small("train.epochs=1"), shapes, run, quiet=True)
    summary = fit(small("train.batch_size=20", "optimizer.lr=0.01"), shapes, run, resume=True)
    assert summary["epochs"] == 2
    assert summary["steps"] == 2 + (240 - 2 * 40) // 20 + 12
    said = capsys.readouterr().err
    assert "train.epochs was 1, is now 2" in said
    assert "train.batch_size was 40, is now 20" in said
    assert "continuing after step 2" in said
    assert [x["lr"] for x in read_metrics(run, "step")][1:3] == [0.05, 0.01]
    (run / "summary.json").unlink()
    _as_if_two_processes(run)
    fit(small("train.epochs=2", "optimizer.lr=0.03"), shapes, run, resume=True)
    said = capsys.readouterr().err
    assert "optimizer.lr was 0.01, is now 0.03" in said
    assert "changed: 1 processes, 2 before" in said
    with pytest.raises(ConfigError, match=r"model\.name was tiny, now it is fc"):
        fit(small("model.name=fc"), shapes, run, resume=True, quiet=True)
    with pytest.raises(
        ConfigError, match=r"optimizer\.norm_bias_lr was None, now it is 1"
    ):  # other groups have other moments
        fit(small("optimizer.norm_bias_lr=1.0"), shapes, run, resume=True, quiet=True)


def test_a_finished_run_is_tested_again_and_can_be_lengthened(
    shapes: Path, small: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    first = fit(small("train.epochs=1"), shapes, run, quiet=True)
    again = fit(small("train.epochs=1"), shapes, run, resume=True)
    assert "nothing is left to train (train.epochs = 1)" in capsys.readouterr().err
    assert (again["test_accuracy"], again["steps"]) == (first["test_accuracy"], first["steps"])
    longer = fit(small("train.epochs=2"), shapes, run, resume=True, quiet=True)
    fit(small("train.epochs=2"), shapes, tmp_path / "whole", quiet=True)
    assert longer["steps"] == 12
    assert_same(tmp_path / "whole", run)


@pytest.mark.slow
def test_the_rate_of_muon_s_rest_may_change(
    shapes: Path, small: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """optimizer.rest must not change. Its name is a prefix of optimizer.rest_lr."""
    muon, run = "optimizer.name=muon", tmp_path / "run"
    fit(small(muon, "train.epochs=1"), shapes, run, quiet=True)
    fit(small(muon, "train.epochs=2", "optimizer.rest_lr=0.01"), shapes, run, resume=True)
    assert "optimizer.rest_lr was None, is now 0.01" in capsys.readouterr().err
    with pytest.raises(ConfigError, match=r"optimizer\.rest was adamw"):
        fit(small(muon, "train.epochs=2", "optimizer.rest=sgd"), shapes, run, resume=True)


def test_when_a_run_folder_may_be_written(shapes: Path, small: Small, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(ConfigError, match="not a run folder"):
        fit(small(), shapes, run, resume=True, quiet=True)
    with pytest.raises(ConfigError, match="restnet"):
        fit(small("model.name=restnet"), shapes, run, quiet=True)
    assert not run.exists()
    fit(small("train.epochs=1"), shapes, run, quiet=True)
    (run / "mine.txt").write_text("kept")
    with pytest.raises(ConfigError, match=r"--resume.*--overwrite"):
        fit(small("train.epochs=1"), shapes, run, quiet=True)
    fit(small("train.epochs=1", "train.seed=5"), shapes, run, overwrite=True, quiet=True)
    assert len(read_metrics(run, "epoch")) == 1
    assert (run / "mine.txt").read_text() == "kept"
