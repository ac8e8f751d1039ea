"""Runs with records.samples: the files agree with the metrics, also after a stop."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slipform.pipelines.errors import ConfigError, Interrupted, SlipformError
from slipform.pipelines.manifest import read_manifest
from slipform.train.config.run_config import RunConfig
from slipform.train.config.toml import to_toml
from slipform.train.machine.distributed import Process
from slipform.train.records import read_metrics
from slipform.train.records.samples import FOLDER, History, read_history, write_epoch
from slipform.train.run import checkpoint, loop
from slipform.train.run.identity import images_in
from slipform.train.run.loop import fit
from slipform.train.run.samples import SampleRecord
from slipform.train.scores.observations import UNSEEN
from tests.processes import finish, torchrun
from tests.train.drawing import without_figures
from tests.train.run.interrupted import Killed, at_step, kill, terminate
from tests.train.run.labeled import dataset_of

pytestmark = pytest.mark.usefixtures("no_figures")
Small = Callable[..., RunConfig]
ON = "records.samples=true"


def _history(run: Path, data: Path) -> History:
    info = read_manifest(data).split("train")
    return read_history(run, info.num_samples, images_in(read_manifest(data), ["train"]))


def _files(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run / FOLDER).iterdir()}


@pytest.fixture(scope="module")
def whole(shapes: Path, small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs of six steps."""
    run = tmp_path_factory.mktemp("run") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        without_figures(patch)
        fit(small(ON), shapes, run, quiet=True)
    return run


def test_the_files_agree_with_the_metrics(whole: Path, shapes: Path) -> None:
    found, lines = _history(whole, shapes), read_metrics(whole, "epoch")
    assert found.epochs == (1, 2)
    assert not found.missing
    assert found.codes.seen.all()  # 240 images in batches of 40
    assert found.codes.correct.mean(1).tolist() == [line["train_accuracy"] for line in lines]
    means = found.codes.losses.mean(1)
    assert means == pytest.approx([line["train_loss"] for line in lines], rel=0.005)


def test_accumulated_batches_all_count(small: Small, shapes: Path, tmp_path: Path) -> None:
    config = small(ON, "train.accumulate=4", "train.batch_size=20", "train.epochs=1")
    fit(config, shapes, tmp_path / "run", quiet=True)
    found = _history(tmp_path / "run", shapes).codes
    assert found.seen.all()
    (line,) = read_metrics(tmp_path / "run", "epoch")
    assert found.correct.mean() == pytest.approx(line["train_accuracy"])


@pytest.mark.parametrize("step", [4, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 6, 9))])
def test_a_run_that_was_stopped_writes_the_same_files(
    step: int, whole: Path, small: Small, shapes: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    run = tmp_path / "run"
    at_step(monkeypatch, step, terminate)
    with pytest.raises(Interrupted):
        fit(small(ON), shapes, run, quiet=True)
    fit(small(ON), shapes, run, quiet=True, resume=True)
    assert _files(run) == _files(whole)


def test_a_run_that_was_killed_trains_an_epoch_again(
    whole: Path, small: Small, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the file of an epoch and its checkpoint, and after the next checkpoint."""
    config, run = small(ON, "train.checkpoint_every_steps=4"), tmp_path / "run"

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_is_best", lambda *_: kill())
        with pytest.raises(Killed):
            fit(config, shapes, run, quiet=True)
    assert list(_files(run)) == ["epoch-0001.safetensors"]
    at_step(monkeypatch, 10, kill)
    with pytest.raises(Killed):
        fit(config, shapes, run, quiet=True, resume=True)
    fit(config, shapes, run, quiet=True, resume=True)
    assert _files(run) == _files(whole)


def test_a_run_without_the_setting_has_no_trace_of_it(
    small: Small, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipform.train.run.samples.SampleRecord", None)
    fit(small("train.epochs=1"), shapes, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run" / FOLDER).exists()
    saved = checkpoint.load_newest(tmp_path / "run", pytest.fail)
    assert saved is not None
    assert saved["counters"]["samples"] is None


def test_the_setting_does_not_change_the_training(
    whole: Path, small: Small, shapes: Path, tmp_path: Path
) -> None:
    fit(small(), shapes, tmp_path / "run", quiet=True)
    a, b = (checkpoint.load_newest(run, pytest.fail) for run in (whole, tmp_path / "run"))
    assert a is not None
    assert b is not None
    for name, tensor in a["state"]["model"].items():
        assert torch.equal(tensor, b["state"]["model"][name]), name


@pytest.mark.slow
def test_a_resumed_run_may_begin_to_record(
    small: Small, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    at_step(monkeypatch, 4, terminate)
    with pytest.raises(Interrupted):
        fit(small(), shapes, run, quiet=True)
    fit(small(ON), shapes, run, quiet=True, resume=True)
    found = _history(run, shapes)
    assert found.epochs == (1, 2)
    assert found.codes.seen.sum(1).tolist() == [80, 240]  # two steps of epoch 1 were left


def test_a_new_run_removes_the_files_of_the_old_one(
    small: Small, shapes: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    fit(small(ON, "train.epochs=1"), shapes, run, quiet=True)
    (run / FOLDER / "epoch-0009.safetensors").write_bytes(b"")
    fit(small("train.epochs=1"), shapes, run, quiet=True, overwrite=True)
    assert not (run / FOLDER).exists()


def test_epochs_on_other_images_and_damaged_files_are_left_out(tmp_path: Path) -> None:
    codes = np.array([3, UNSEEN, -700, 2**15 - 1], np.int16)
    for epoch, images in ((1, "a"), (2, "b"), (3, "a"), (4, "a"), (12345, "a")):
        write_epoch(tmp_path, epoch, codes, images)
    path = tmp_path / FOLDER / "epoch-0003.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    write_epoch(tmp_path, 4, codes[:3], "a")
    found = read_history(tmp_path, 4, "a")
    assert found.epochs == (1, 12345)
    assert found.codes.values.tolist() == [codes.tolist()] * 2
    reasons = ("other training images", "checksum", "two bytes for each of 4")
    assert len(found.missing) == 3
    assert all(reason in text for reason, text in zip(reasons, found.missing, strict=True))


def test_several_labels_are_refused(small: Small, tmp_path: Path) -> None:
    data = dataset_of(tmp_path / "data", "multi")
    config = small(ON, "loss.name=bce", "augment.image_size=24")
    with pytest.raises(ConfigError, match=r"records\.samples = true is for images with one label"):
        fit(config, data, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_full_disk_is_an_error_of_ours(small: Small, shapes: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / FOLDER).write_text("a file is where the folder must be")
    with pytest.raises(SlipformError, match="observations of the samples in epoch 1 could not be"):
        fit(small(ON), shapes, run, quiet=True, overwrite=True)


class _Two(Process):
    """A process of two whose gathered values are set by the test."""

    def all_gather(self, value: Any) -> list[Any]:
        return [value, OTHER]


OTHER = np.array([UNSEEN, 5, 9, UNSEEN], np.int16)


def test_what_the_processes_have_seen_is_put_together() -> None:
    class Split:
        num_samples = 4
        manifest = read = samples = None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("slipform.train.run.samples.images_of", lambda _: "images")
        record = SampleRecord(Split(), _Two(torch.device("cpu"), 0, 2))  # type: ignore[arg-type]
    record.observations.load(np.array([3, UNSEEN, 7, UNSEEN], np.int16))
    saved = record.state_dict()
    assert saved is not None
    assert saved["codes"].tolist() == [3, 5, 9, UNSEEN]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_and_then_one(
    whole: Path, small: Small, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An epoch that two processes begin and one process ends has all of its samples. If two
    processes end it, the file is that of an undisturbed run."""
    run, words = tmp_path / "run", ["--set", ON]
    for text in ("train.batch_size=20", "train.epochs=1", "train.checkpoint_every_steps=4"):
        words += ["--set", text]
    settings = tmp_path / "small.toml"
    settings.write_text(to_toml(small()))
    program = tmp_path / "program.py"
    program.write_text(
        "from slipform.train.run import loop\n"
        "def stop(run, line):\n    raise SystemExit(3)\n"
        "loop._is_best = stop\n"
        "from slipform.train.cli import train\ntrain()\n"
    )
    command = [program, shapes, "--recipe", settings, "--out", run, "--device", "cpu", *words]
    process = torchrun(2, *command)
    _, errors = process.communicate()
    assert process.returncode != 0
    together = _history(run, shapes).codes
    reference = _history(whole, shapes).codes
    assert together.seen.all(), errors
    # The same images in the same steps; sums of two processes are rounded otherwise.
    close = np.abs(together.losses[0] - reference.losses[0]) < 0.05 + 0.05 * reference.losses[0]
    assert close.mean() > 0.95
    saved = checkpoint.load_newest(run, pytest.fail)
    assert saved is not None
    assert (saved["counters"]["samples"]["codes"] != UNSEEN).sum() == 160
    again = tmp_path / "again"
    shutil.copytree(run, again, ignore=shutil.ignore_patterns(FOLDER))
    finish(torchrun(2, "-m", "slipform.train.cli", "--resume", again, "--device", "cpu"))
    assert _files(again) == _files(run)
    config = small(ON, "train.batch_size=40", "train.epochs=1")
    fit(config, shapes, run, quiet=True, resume=True)
    after = _history(run, shapes).codes
    assert after.seen.all()
    kept = saved["counters"]["samples"]["codes"].numpy() != UNSEEN
    assert (after.values[0] == together.values[0])[kept].all()
