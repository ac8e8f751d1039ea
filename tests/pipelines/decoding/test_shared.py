"""The processes of a run on one machine share one copy of the decoded pixels, which is freed with
the last process."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import socket
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pytest

from slipform.pipelines.beton import Beton
from slipform.pipelines.decoding import shared
from slipform.pipelines.decoding.integrity import FirstRead
from slipform.pipelines.decoding.preload import decode_all
from tests.pipelines.folders import jpeg, noise, smooth, write_beton

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[3]
NUM_BYTES = 3 << 20
PROCESS = """
import sys
import numpy as np
from slipform.pipelines.decoding import shared
from slipform.pipelines.decoding.shared import local_processes, shared_memory

shared._FIND_SECONDS = 0.5 if "fail" in sys.argv else 120.0  # the machine may be busy

def fill(memory):
    print("fills", local_processes()[0], flush=True)
    if "fail" in sys.argv and local_processes()[0] == 0:
        raise SystemExit(3)
    memory[:] = np.arange(len(memory)) % 251

for key in ("a", "b"):
    memory = shared_memory(key, int(sys.argv[1]), fill)
    assert (memory == np.arange(len(memory)) % 251).all()
    for line in open("/proc/self/smaps"):
        if "memfd:slipform" in line:
            print("maps", key, line.split()[4], flush=True)
print("ready", flush=True)
sys.stdin.readline()
assert (memory == np.arange(len(memory)) % 251).all()
print("done", flush=True)
"""


@contextlib.contextmanager
def _started(count: int, *arguments: str) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes of a run, as torchrun starts them."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-P", "-c", PROCESS, str(NUM_BYTES), *arguments],
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "LOCAL_RANK": str(rank),
                "LOCAL_WORLD_SIZE": str(count),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def _until_ready(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout
    lines: list[str] = []
    for line in process.stdout:
        if line.strip() == "ready":
            return lines
        lines.append(line.strip())
    raise AssertionError(f"ended with {process.wait()}: {lines}")


def _holders(inodes: set[str]) -> set[int]:
    """The processes that map a file of these inodes."""
    found = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):
            for line in maps.read_text().splitlines():
                if "memfd:slipform" in line and line.split()[4] in inodes:
                    found.add(int(maps.parent.name))
    return found


@pytest.mark.parametrize("count", [2, 4])
def test_all_processes_map_the_same_memory_which_a_kill_frees(count: int) -> None:
    before = sorted(os.listdir("/dev/shm")) if Path("/dev/shm").is_dir() else []
    with _started(count) as processes:
        said = [_until_ready(process) for process in processes]
        assert said[0][0] == "fills 0"
        assert not any("fills" in line for lines in said[1:] for line in lines)
        maps = [[line for line in lines if line.startswith("maps b")] for lines in said]
        assert len({tuple(sorted(set(lines))) for lines in maps}) == 1
        inodes = set(re.findall(r"maps b (\d+)", " ".join(maps[0])))
        assert {process.pid for process in processes} <= _holders(inodes)
        processes[0].kill()  # the others keep the memory
        processes[0].wait()
        for process in processes[1:]:
            assert process.stdin
            assert process.stdout
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline().strip() == "done"
    assert not _holders(inodes)  # and it has no name in the file system
    after = sorted(os.listdir("/dev/shm")) if Path("/dev/shm").is_dir() else []
    assert not [name for name in set(after) - set(before) if "slipform" in name]


def test_the_others_decode_if_the_first_process_fails() -> None:
    with _started(2, "fail") as processes:
        assert processes[0].wait() == 3
        assert [line for line in _until_ready(processes[1]) if "fills" in line] == ["fills 1"] * 2


def _filled(memory: npt.NDArray[np.uint8]) -> None:
    memory[:] = 7


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_alone_uses_its_own_memory(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "_FIND_SECONDS", 0.1)
    monkeypatch.setattr(shared, "local_processes", lambda: (rank, 2))
    assert (shared.shared_memory("alone", 100, _filled) == 7).all()


def test_a_process_of_another_user_gets_and_gives_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    _two_threads(monkeypatch)
    monkeypatch.setattr(shared, "_is_ours", lambda connection: False)
    fills: list[str] = []

    def fill(memory: npt.NDArray[np.uint8]) -> None:
        fills.append(threading.current_thread().name)
        memory[:] = 7

    assert all((memory == 7).all() for memory in _both(lambda: shared.shared_memory("k", 9, fill)))
    assert sorted(fills) == ["0", "1"]


def test_nothing_stays_open_if_the_thread_that_gives_cannot_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inodes: list[int] = []
    create = os.memfd_create

    def created(name: str) -> int:
        handle = create(name)
        inodes.append(os.fstat(handle).st_ino)
        return handle

    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(shared, "local_processes", lambda: (0, 2))
    monkeypatch.setattr(os, "memfd_create", created)
    monkeypatch.setattr(threading.Thread, "start", fail)
    address = b"\0slipform-test-" + str(os.getpid()).encode()
    monkeypatch.setattr(shared, "_address", lambda key: address)
    with contextlib.suppress(RuntimeError):  # pytest.raises would keep the frames and the memory
        shared.shared_memory("k", 9, _filled)
        raise AssertionError
    assert len(inodes) == 1
    assert not set(inodes) & set(_open_inodes())
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(address)  # the address is free


def _open_inodes() -> Iterator[int]:
    for handle in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the one of `listdir`
            yield os.stat(f"/proc/self/fd/{handle}").st_ino


def _two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads, "0" and "1", are the processes of a run."""
    monkeypatch.setattr(
        shared, "local_processes", lambda: (int(threading.current_thread().name), 2)
    )
    monkeypatch.setattr(shared, "_turns", defaultdict(lambda: itertools.repeat(0)))


def _both(call: Callable[[], T]) -> list[T]:
    """The result of the call in each of the two threads."""
    found: dict[str, T] = {}
    threads = [
        threading.Thread(target=lambda n=name: found.update({n: call()}), name=name)
        for name in ("0", "1")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found["0"], found["1"]]


@pytest.mark.parametrize("one_buffer", [False, True])
def test_decoded_images_and_bad_ones_are_the_same(
    one_buffer: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [jpeg(smooth(20 + i, 24, i)) for i in range(6)]
    images[2] = images[2][:4] + bytes(len(images[2]) - 4)  # no JPEG
    write_beton(
        tmp_path / "train.beton",
        [*images, noise(9, 8)],
        [0] * 7,
        [*((20 + i, 24) for i in range(6)), (9, 8)],
    )
    beton = Beton(tmp_path / "train.beton")
    alone = decode_all(beton, 1, FirstRead(beton, "skip"), one_buffer)
    assert alone.bad.tolist() == [False, False, True, False, False, False, False]
    _two_threads(monkeypatch)
    for found in _both(
        lambda: decode_all(beton, 1, FirstRead(beton, "skip"), one_buffer, shared=True)
    ):
        np.testing.assert_array_equal(found.bad, alone.bad)
        np.testing.assert_array_equal(found.buffer, alone.buffer)
        in_buffer = np.arange(7 if one_buffer else 6)
        np.testing.assert_array_equal(found.offsets[in_buffer], alone.offsets[in_buffer])
        assert one_buffer or found.addresses[6] == alone.addresses[6]
