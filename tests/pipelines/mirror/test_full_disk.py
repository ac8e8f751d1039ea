"""A disk that becomes full at any write of a cache ends in a StorageError, never in a signal."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from slipform.pipelines.errors import StorageError
from slipform.pipelines.manifest import read_manifest
from slipform.pipelines.mirror.folder import PRESENT, local_folder, open_mirror
from slipform.pipelines.mirror.pins import Pins, pinned
from tests.object_server import end_requests
from tests.pipelines.epochs import open_loader
from tests.pipelines.mirror.stored import assert_equal, batches, mirror_of

FULL = r"cannot be written: No space left on device.*SLIPFORM_CACHE"


def _full(*_: object) -> int:
    raise OSError(28, "No space left on device")


def test_while_samples_are_written(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_loader(url, "host") as loader:
        monkeypatch.setattr(os, "pwrite", _full)
        with pytest.raises(StorageError, match=FULL):
            list(loader)


@pytest.mark.parametrize("call", ["pwrite", "truncate", "posix_fallocate"])
def test_while_a_mirror_is_opened(
    call: str, url: str, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, call, _full)
        with pytest.raises(StorageError, match=FULL):
            open_loader(url, "host")
    end_requests()  # the thread that failed has the error, and with it the reader
    assert not list((mirror_of(url) / "readers").iterdir())
    assert_equal(batches(open_loader(url, "host")), batches(open_loader(photos, "host")))


def test_writes_that_are_short(url: str, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system writes what fits, and raises only at the next call."""
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, at: whole(file, data[:1000], at))
    assert_equal(batches(open_loader(url, "host")), batches(open_loader(photos, "host")))


def test_shared_memory_has_its_blocks(url: str) -> None:
    """A write to a map over a hole would end the process with SIGBUS when the disk is full."""
    folder = local_folder(url)
    with open(folder / PRESENT, "wb") as file:
        file.truncate(120)  # as an older version left it
    mirror = open_mirror(folder, read_manifest(folder))
    assert mirror is not None
    pins = Pins(mirror)
    for path in (folder / PRESENT, *(folder / "readers").iterdir()):
        assert 512 * path.stat().st_blocks >= path.stat().st_size == len(pins.counts)


def test_a_reader_that_ends_while_others_look(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = local_folder(url)
    mirror = open_mirror(folder, read_manifest(folder))
    assert mirror is not None
    gone = [folder / "readers" / "1-ab.pins"]
    monkeypatch.setattr("slipform.pipelines.mirror.pins.live_readers", lambda folder: gone)
    assert not pinned(mirror).any()


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOTDIR, errno.EIO])
@pytest.mark.parametrize("filled", [False, True])
def test_a_cache_that_cannot_be_written(
    filled: bool, code: int, url: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the variable, and does not say that space is missing."""
    if filled:
        batches(open_loader(url, "host"), 1)
    usual_open, usual_mkdir = os.open, os.mkdir

    def refused(path: object, flags: int, *args: Any, **options: Any) -> int:
        if str(path).startswith(str(cache)) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(code, os.strerror(code), str(path))
        return usual_open(path, flags, *args, **options)  # type: ignore[arg-type]

    def no_folder(path: object, *args: Any, **options: Any) -> None:
        if str(path).startswith(str(cache)) and not os.path.isdir(str(path)):
            raise OSError(code, os.strerror(code), str(path))
        usual_mkdir(path, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refused)
    monkeypatch.setattr(os, "mkdir", no_folder)
    with pytest.raises(StorageError) as found:
        open_loader(url, "host")
    message = found.value.message
    assert f"{cache}" in message
    assert f"cannot be written: {os.strerror(code)}. Set SLIPFORM_CACHE to a folder" in message
    assert "Free space" not in message
