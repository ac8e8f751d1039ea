"""The records of a run after errors: what stays open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slipform.train.records import METRICS
from slipform.train.run import record
from slipform.train.run.record import Recorder
from tests.open_files import open_files


def _recorder(run: Path) -> Recorder:
    return Recorder(run, writes=True, quiet=True, step=0, epoch=0)


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
