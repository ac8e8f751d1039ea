"""One copy of decoded pixels for all processes of a run on one machine: `shared_memory`.

In: a key, a number of bytes, a function that fills them. Out: memory with the same content in each
process.

The first process makes a file without a name (memfd) and fills it. It sends the descriptor to the
others over an abstract Unix socket. Neither is in the file system: the kernel frees both when the
last process ends, also after kill -9. A process that gets no descriptor fills memory of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import mmap
import os
import socket
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

__all__ = ["local_processes", "shared_memory"]

_Bytes = npt.NDArray[np.uint8]
_FIND_SECONDS = 30.0  # processes of a run start together
_turns: defaultdict[str, Iterator[int]] = defaultdict(itertools.count)


def local_processes() -> tuple[int, int]:
    """Number of this process, and number of processes of the run, on this machine.

    Returns:
        What torchrun set: LOCAL_RANK and LOCAL_WORLD_SIZE; (0, 1) without them.
    """
    try:
        return int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    except (KeyError, ValueError):
        return 0, 1


def shared_memory(key: str | None, num_bytes: int, fill: Callable[[_Bytes], None]) -> _Bytes:
    """Get memory that the processes of a run on this machine share.

    All of them call this function with the same keys in the same order. The first one fills the
    memory, and the others wait for it.

    Args:
        key: What the memory holds. None: it is not shared.
        num_bytes: Its size.
        fill: Fills it. At first all bytes are 0.

    Returns:
        uint8 [num_bytes]. Do not write to it. It is freed with the last array in the last process.

    Raises:
        Exception: What `fill` raised. The other processes then call their own `fill`.
    """
    rank, size = local_processes()
    memory = None
    if key is not None and size > 1 and num_bytes:
        address = _address(key)
        memory = (
            _receive(address, num_bytes) if rank else _serve(address, num_bytes, fill, size - 1)
        )
    if memory is None:
        memory = np.zeros(num_bytes, np.uint8)
        fill(memory)
    return memory


def _address(key: str) -> bytes:
    """The socket of a key. It differs between runs, and from one call with this key to the next."""
    run = [os.environ.get(name, "") for name in ("TORCHELASTIC_RUN_ID", "MASTER_PORT")]
    parts = (key, *run, str(os.getppid()), str(os.getuid()), str(next(_turns[key])))
    return b"\0slipform-" + hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32].encode()


def _serve(
    address: bytes, num_bytes: int, fill: Callable[[_Bytes], None], others: int
) -> _Bytes | None:
    """Fill the memory, and give it to the others in the background. None: the address is taken."""
    with contextlib.ExitStack() as held:
        listener = held.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        try:
            listener.bind(address)
            listener.listen(others)  # the others connect now, and wait
        except OSError:
            return None
        file = held.enter_context(open(os.memfd_create("slipform"), "r+b", buffering=0))
        file.truncate(num_bytes)
        memory = np.frombuffer(mmap.mmap(file.fileno(), num_bytes), np.uint8)
        fill(memory)
        threading.Thread(target=_give, args=(listener, file, others), daemon=True).start()
        held.pop_all()  # the thread closes them
    return memory


def _give(listener: socket.socket, file: io.FileIO, others: int) -> None:
    # Ctrl-C during the start of this thread closes both: they may be closed twice, and ValueError
    # is raised by a file that is closed.
    with listener, file, contextlib.suppress(OSError, ValueError):
        listener.settimeout(_FIND_SECONDS)
        for _ in range(others):
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                if _is_ours(connection):
                    socket.send_fds(connection, [b"1"], [file.fileno()])


def _receive(address: bytes, num_bytes: int) -> _Bytes | None:
    """Wait for the memory. None: the first process does not offer it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        if not _connected(connection, address) or not _is_ours(connection):
            return None
        try:
            _, descriptors, _, _ = socket.recv_fds(connection, 1, 1)
        except OSError:
            return None
    for descriptor in descriptors:
        try:
            if os.fstat(descriptor).st_size == num_bytes:
                readable = mmap.mmap(descriptor, num_bytes, prot=mmap.PROT_READ)
                return np.frombuffer(readable, np.uint8)
        finally:
            os.close(descriptor)
    return None


def _connected(connection: socket.socket, address: bytes) -> bool:
    until = time.monotonic() + _FIND_SECONDS
    while time.monotonic() < until:
        try:
            connection.connect(address)
            return True
        except OSError:  # the first process has not opened its socket yet
            time.sleep(0.02)
    return False


def _is_ours(connection: socket.socket) -> bool:
    """Whether a process of this user is at the other end."""
    size = struct.calcsize("3i")
    peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    return struct.unpack("3i", peer)[1] == os.getuid()
