"""Ctrl-C ends the listing of a source and a merge at once, and leaves no half of a dataset."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slipform.preprocess import shards
from slipform.preprocess.local_folder import LocalFolder
from slipform.preprocess.merge import merge
from slipform.preprocess.shard_list import ShardList
from slipform.preprocess.shard_record import Shard
from slipform.preprocess.source import Generated, SampleSource
from tests.object_server import Fault, Proxy
from tests.preprocess.made import COUNT, made, write_all
from tests.processes import wait_for


class Endless:
    """A call that ends with the test, as one to a file system that does not answer."""

    def __init__(self) -> None:
        self.begun, self.ended = threading.Event(), threading.Event()

    def __call__(self, *_: Any, **__: Any) -> Any:
        self.begun.set()
        self.ended.wait()


@pytest.fixture
def endless() -> Iterator[Endless]:
    call, before = Endless(), signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def disturb() -> None:
        call.begun.wait()
        if not call.ended.is_set():
            os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=disturb, daemon=True).start()
    yield call
    signal.signal(signal.SIGINT, before)
    call.ended.set()
    call.begun.set()


def _list(endless: Endless, out: Path, patch: pytest.MonkeyPatch) -> None:
    class OnDisk(Generated):
        def num_bytes(self, index: int) -> int:
            endless()
            return 1

    samples = OnDisk(lambda index: b"", np.zeros(1000, np.int64), "made")
    shards.write_shard(
        ShardList(SampleSource("made", ["a"], {"train": samples}, "")), out, Shard(1, 2)
    )


def _read_records(endless: Endless, out: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr("slipform.preprocess.merge.read_record", endless)
    merge(out)


def _hash(endless: Endless, out: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LocalFolder, "_check", endless)
    merge(out)


@pytest.mark.parametrize("act", [_list, _read_records, _hash])
def test_ctrl_c_does_not_wait_for_files(
    act: Callable[..., None], endless: Endless, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file system answers after the end of the test."""
    if act is not _list:
        write_all(made(), tmp_path)
        (tmp_path / "dataset.json").unlink()
    before = sorted(os.listdir(tmp_path))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        act(endless, tmp_path, patch)
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize(
    "asked",
    [
        "shard-00003-of-00005.json",
        pytest.param("train-00004-of-00005.beton", marks=pytest.mark.slow),
    ],
)
def test_ctrl_c_ends_a_merge_whose_server_does_not_answer(object_store: Proxy, asked: str) -> None:
    """The command ends with 130 and without a traceback, and the merge can be repeated."""
    url = object_store.new_folder()
    for number in range(1, COUNT + 1):
        shards.write_shard(made(), url, Shard(number, COUNT))
    stall = Fault("stall", f"GET .*{asked}", times=1000)
    object_store.faults = [stall]
    command = [sys.executable, "-P", "-m", "slipform.preprocess.cli", "merge", url]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        wait_for(process, lambda: object_store.times(stall) > 0)
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
        assert process.stderr is not None
        errors = process.stderr.read()
    assert "interrupted" in errors
    assert "Traceback" not in errors
    object_store.reset()
    assert merge(url).split("train").num_samples == 37
