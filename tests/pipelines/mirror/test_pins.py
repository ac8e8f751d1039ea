"""Errors of the file system at the begin and at the end of a reader leave no file open."""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slipform.pipelines.errors import StorageError
from slipform.pipelines.manifest import read_manifest
from slipform.pipelines.mirror.cache import READERS
from slipform.pipelines.mirror.folder import Mirror, open_mirror
from slipform.pipelines.mirror.pins import Pins, pinned
from tests.open_files import open_files
from tests.pipelines.mirror.stored import mirror_of

pytestmark = pytest.mark.usefixtures("no_collections")


@pytest.fixture
def mirror(url: str, photos: Path) -> Mirror:
    found = open_mirror(mirror_of(url), read_manifest(photos))
    assert found is not None
    return found


def _raises(code: int) -> Callable[..., Any]:
    def call(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return call


def test_a_file_system_without_locks(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", _raises(errno.ENOLCK))
        with pytest.raises(StorageError, match="cannot be written: No locks available"):
            Pins(mirror)
    gc.collect()
    assert not open_files(mirror.folder / READERS)
    assert not os.listdir(mirror.folder / READERS)


def test_a_reader_that_cannot_delete_its_file(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It frees the lock without a message, and the next reader deletes the file."""
    messages: list[Any] = []
    pins = Pins(mirror)
    assert open_files(mirror.folder / READERS)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "unraisablehook", messages.append)
        patch.setattr(Path, "unlink", _raises(errno.EROFS))
        del pins
    assert not messages
    assert not open_files(mirror.folder / READERS)
    assert len(os.listdir(mirror.folder / READERS)) == 1
    with mirror.locked():
        assert not pinned(mirror).any()
    assert not os.listdir(mirror.folder / READERS)
