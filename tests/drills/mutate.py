"""Readers get mutated files in a forked worker with limits of memory and processor time.

In: a `Reader`, a seed, a number. Out: the numbers of right results and of refused files, and every
other outcome: another exception, too much memory or time, a process that died.
"""

from __future__ import annotations

import mmap
import os
import random
import re
import resource
import signal
import struct
import sys
import traceback
import warnings
from dataclasses import dataclass, field
from types import FrameType

from slipform.pipelines.errors import SlipformError
from tests.drills.reader import Reader

MEMORY_BYTES = 1 << 30  # above what the process has before
SECONDS = 10  # of processor time, for one file of a few kilobytes


@dataclass
class Outcome:
    """wrong: outcome -> the first number with that outcome, and how often it occurred."""

    right: int = 0
    refused: int = 0
    wrong: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """All mutated files."""
        return self.right + self.refused + sum(count for _, count in self.wrong.values())

    def add(self, what: str, number: int) -> None:
        """One outcome."""
        if what == "right":
            self.right += 1
        elif what == "refused":
            self.refused += 1
        else:
            first, count = self.wrong.get(what, (number, 0))
            self.wrong[what] = (first, count + 1)


class _TooLong(BaseException):
    pass


def mutated(whole: bytes, head: int, seed: str) -> bytes:
    """Mutate bytes: change, delete, repeat, insert or truncate some, or set a number to a huge
    value."""
    chance = random.Random(seed)
    data = bytearray(whole)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        end = min(head, len(data)) if chance.random() < 0.5 else len(data)
        at = chance.randrange(max(end, 1))
        kind = chance.randrange(8)
        if kind == 0 and data:
            data[min(at, len(data) - 1)] ^= 1 << chance.randrange(8)
        elif kind == 1:
            data[at : at + 4] = chance.randbytes(chance.randrange(5))
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            data[at:at] = data[at : at + chance.randrange(1, 60)]
        elif kind == 4:
            data[at : at + 8] = b"\xff" * chance.randrange(1, 9)
        elif kind == 5:
            data[at : at + 4] = struct.pack(chance.choice("<>") + "I", 1 << chance.randrange(32))
        elif kind == 6:
            data[at : at + 1] = chance.choice(_TEXTS)
        else:
            del data[at : at + chance.randrange(1, 40)]
    return bytes(data)


_TEXTS = (
    b"[" * 50_000, b'{"a":' * 50_000, b"null", b"-1", b"1e999", b"NaN", b"true", b'"', b"\n", b"\0",
    b"9" * 5_000, b"[]", b"{}", b"\xc3", b"../../x", b"\x1b[2J", b"(" * 300, b"}q\x00" * 300,
)  # fmt: skip


def drill(reader: Reader, seed: int, total: int) -> Outcome:
    """Give a reader the intact file, whose result must be right, then `total` mutated files."""
    outcome = Outcome()
    whole = reader.file.read_bytes()
    # The number that the worker has reached. A dead worker cannot report it.
    memory = mmap.mmap(-1, 16)
    done = 0
    while done < total:
        ours, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(ours)
            _work(reader, whole, seed, range(done, total), theirs, memory)
        os.close(theirs)
        with open(ours, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                number, _, what = line.rstrip("\n").partition(" ")
                outcome.add(what, int(number))
                done = int(number) + 1
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status != 0:
            done = struct.unpack("q", memory[:8])[0]
            outcome.add(f"the process died: {status}", done)
            done += 1
    reader.file.write_bytes(whole)
    return outcome


def _work(
    reader: Reader, whole: bytes, seed: int, numbers: range, pipe: int, memory: mmap.mmap
) -> None:
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        warnings.simplefilter("ignore")
        with open(pipe, "w", encoding="utf-8", errors="replace", buffering=1) as out:
            # Read the intact file before the limits are set: loading a decoder takes more memory.
            memory[:8] = struct.pack("q", numbers.start)
            reader.file.unlink(missing_ok=True)
            reader.file.write_bytes(whole)
            reader.read()
            _limit()
            for number in numbers:
                memory[:8] = struct.pack("q", number)
                reader.file.unlink(missing_ok=True)
                reader.file.write_bytes(
                    mutated(whole, reader.head, f"{reader.name} {seed} {number}")
                )
                out.write(f"{number} {_outcome(reader)}\n")
    except BaseException:
        traceback.print_exc()
        os._exit(3)
    os._exit(0)


def _outcome(reader: Reader) -> str:
    signal.setitimer(signal.ITIMER_PROF, SECONDS)  # any speed: of processor time
    try:
        reader.read()
    except SlipformError:
        return "refused"
    except BaseException as error:
        frames = traceback.extract_tb(sys.exc_info()[2])
        ours = [f for f in frames if "/drills/" not in f.filename or "/tests/" not in f.filename]
        last = [f for f in ours if "site-packages" not in f.filename][-1:] or frames[-1:]
        where = f"{os.path.basename(last[0].filename)}:{last[0].lineno}"
        return f"{type(error).__name__} in {where}: {re.sub('[0-9a-fx]+', '0', str(error))[:60]!r}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return "right"


def _limit() -> None:
    def late(number: int, frame: FrameType | None) -> None:
        raise _TooLong

    signal.signal(signal.SIGPROF, late)
    with open("/proc/self/statm", encoding="ascii") as file:
        pages = int(file.read().split()[0])
    most = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
