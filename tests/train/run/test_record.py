"""The records of a run: what stays open after errors, and what is freed."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import pytest

from slipform.train.config.records import RecordsConfig
from slipform.train.records import METRICS
from slipform.train.run import record
from slipform.train.run.record import Recorder
from tests.open_files import open_files


def _recorder(run: Path, *sinks: Any) -> Recorder:
    records = RecordsConfig(sinks=sinks)
    return Recorder(run, writes=True, quiet=True, step=0, epoch=0, records=records)


@pytest.mark.parametrize("step", ["Workers", "Place"])
def test_no_file_stays_open_if_a_recorder_cannot_be_made(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(record, step, fail)
        with pytest.raises(RuntimeError, match="new thread"):
            _recorder(tmp_path)
        # A file that is open when it is freed gives a warning, which fails the test.
        assert open_files(tmp_path) == []
    recorder = _recorder(tmp_path)
    assert open_files(tmp_path) == [str(tmp_path / METRICS)]
    recorder.close()
    assert open_files(tmp_path) == []


@pytest.mark.usefixtures("no_collections")
def test_sinks_do_not_keep_a_recorder(tmp_path: Path) -> None:
    """They may say something, but not by a method of the recorder: that would be a cycle."""
    recorder = _recorder(tmp_path, "csv", "tensorboard")
    recorder.steps(1, 1, [0.5], [0.1])
    recorder.close()
    assert len(recorder._sinks) == 2
    left = weakref.ref(recorder)
    del recorder
    assert left() is None


def test_fast_and_long_epochs_are_shown_in_full(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder = Recorder(tmp_path, writes=True, quiet=False, step=0, epoch=0)
    values = {"train_loss": 0.0123456, "train_seconds": 12345.6, "images_per_second": 734565.2}
    recorder.epoch(10, {"epoch": 1, **values, "val_loss": float("inf")})
    recorder.close()
    said = (
        "epoch 1  train_loss 0.01235  train_seconds 12,346  images_per_second 734,565  val_loss inf"
    )
    assert " ".join(capsys.readouterr().err.split()) == " ".join(said.split())
