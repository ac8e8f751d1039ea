"""Temporary folders: none is removed while its process is alive, and all that others left are."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from slipform.preprocess.temporary_folder import naming, remove_abandoned, temporary_folder


@pytest.mark.parametrize("step", ["flock", "rename", "mkdir"])
def test_a_folder_that_is_being_made_is_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Another process looks for abandoned folders before each step."""
    where: Any = {"flock": fcntl, "rename": os, "mkdir": Path}[step]
    original, looked = getattr(where, step), list[str]()

    def after_another(*arguments: Any, **options: Any) -> Any:
        if not looked:  # the other process calls these functions, too
            looked.append(step)
            remove_abandoned(tmp_path, "x-")
        return original(*arguments, **options)

    monkeypatch.setattr(where, step, after_another)
    with temporary_folder(tmp_path, "x-") as folder:
        (folder / "a.txt").write_text("a")
        assert looked == [step]
    assert os.listdir(tmp_path) == []


def test_without_locks_nothing_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As some network file systems are: the folder may belong to another computer."""

    def fails(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", fails)
    with temporary_folder(tmp_path, "x-") as first, temporary_folder(tmp_path, "x-") as second:
        assert os.listdir(first) == os.listdir(second) == []
    assert os.listdir(tmp_path) == []


def test_a_file_that_is_still_written_is_left_to_the_next_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an error, a thread may write a file while its folder is deleted."""
    original = shutil.rmtree

    def while_a_thread_writes(folder: Path, **options: Any) -> None:
        original(folder, **options)
        monkeypatch.setattr(shutil, "rmtree", original)
        folder.mkdir()
        (folder / "late.txt").touch()

    with temporary_folder(tmp_path, "x-"):
        monkeypatch.setattr(shutil, "rmtree", while_a_thread_writes)
    (left,) = tmp_path.iterdir()
    assert sorted(os.listdir(left)) == ["files", "lock"]
    with temporary_folder(tmp_path, "x-"):
        assert not left.exists()
    assert os.listdir(tmp_path) == []


def test_only_folders_of_the_prefix_that_have_a_free_lock_are_removed(tmp_path: Path) -> None:
    for name in ("x-1", "x-2", "y-1"):
        (tmp_path / name / "files").mkdir(parents=True)
    for name in ("x-1", "y-1"):
        (tmp_path / name / "lock").touch()
    (tmp_path / "x-3").symlink_to("y-1")
    (tmp_path / "x-4").touch()
    remove_abandoned(tmp_path, "x-")
    assert sorted(os.listdir(tmp_path)) == ["x-2", "x-3", "x-4", "y-1"]
    assert (tmp_path / "y-1/lock").exists()


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(errno.ENOSPC, "No space left"), f"[Errno {errno.ENOSPC}] No space left: '/out'"),
        (OSError(errno.EIO, "Bad disk", "/in"), f"[Errno {errno.EIO}] Bad disk: '/in'"),
        (OSError("cannot identify image file"), "cannot identify image file"),
    ],
)
def test_an_error_that_names_no_file_names_the_folder(error: OSError, text: str) -> None:
    """The text of an error without a number stays."""
    with pytest.raises(OSError, match=f"^{re.escape(text)}$"), naming("/out"):
        raise error


def test_ctrl_c_while_it_is_made_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a lock file, no later process would delete the folder."""
    mkdir = os.mkdir

    def interrupted(*args: Any, **options: Any) -> None:
        mkdir(*args, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "mkdir", interrupted)
    with pytest.raises(KeyboardInterrupt), temporary_folder(tmp_path, "x-"):
        pass
    assert not list(tmp_path.iterdir())
