"""Files are written completely or not at all, opened only if they are regular, and locked."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from slipform.pipelines.errors import DatasetError, SlipformError
from slipform.pipelines.files import (
    locked,
    open_regular,
    remove_orphans,
    replacing,
    write_whole,
)


def test_the_content_and_the_mode_of_a_new_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "a", "für")
        with replacing(tmp_path / "b") as temporary:
            os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
    finally:
        os.umask(before)
    assert (tmp_path / "a").read_bytes() == "für".encode()
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "ab"] == [0o640, 0o640]


def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_whole(path, b"old")

    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_bytes(b"half of the n")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_the_file_is_flushed_before_the_rename_and_the_folder_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []  # those below tmp_path: a thread of another test may call them, too
    fsync, replace = os.fsync, os.replace

    def note_fsync(handle: int) -> None:
        if os.readlink(f"/proc/self/fd/{handle}").startswith(str(tmp_path)):
            calls.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def note_replace(source: Path, target: Path) -> None:
        if target == tmp_path / "a":
            calls.append("rename")
        replace(source, target)

    monkeypatch.setattr("slipform.pipelines.files.os.fsync", note_fsync)
    monkeypatch.setattr("slipform.pipelines.files.os.replace", note_replace)
    write_whole(tmp_path / "a", b"x")
    assert calls == ["file", "rename", "folder"]


def test_the_target_of_a_link_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "file")
    write_whole(tmp_path / "link", b"x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "file").read_bytes() == b"x"


def test_a_file_replaces_no_device_and_no_fifo(tmp_path: Path) -> None:
    """For root, --out /dev/null would otherwise replace the device by a file."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("/dev/null")
    for name, kind in (("fifo", "FIFO"), ("folder", "folder"), ("link", "device")):
        with pytest.raises(OSError, match=f"a {kind} is there, not a regular file"):
            write_whole(tmp_path / name, b"x")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert len(os.listdir(tmp_path)) == 3


def test_errors_name_the_given_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="none") as caught:
        write_whole(tmp_path / "none" / "a", b"x")
    assert caught.value.filename == str(tmp_path / "none" / "a")


def test_orphans_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from slipform.pipelines.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_bytes(b'x'); os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-P", "-c", code, str(tmp_path / "a")], check=False)
    assert len(os.listdir(tmp_path)) == 1
    remove_orphans(tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", ["folder", "FIFO", "socket", "device"])
def test_only_regular_files_are_opened(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    if kind == "folder":
        path.mkdir()
    elif kind == "FIFO":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(path))
        server.close()
    with pytest.raises(DatasetError, match="regular file"):
        open_regular(path, DatasetError)


def test_a_regular_file_is_opened_through_a_link_and_a_missing_one_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with open_regular(tmp_path / "link") as file:
        assert file.read() == b"x"
        assert os.get_blocking(file.fileno())
    with pytest.raises(SlipformError, match="does not exist"):
        open_regular(tmp_path / "none")


def test_a_lock_is_held_by_one_and_ends_with_its_process(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from slipform.pipelines.files import locked\n"
        "with locked(Path(sys.argv[1]), 'x'): print('held', flush=True); input()\n"
    )
    path = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-P", "-c", code, str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(SlipformError, match="another train"), locked(path, "another train"):
            pass
        process.kill()
        process.wait()
    with locked(path, "another train"):
        pass
