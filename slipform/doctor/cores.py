"""How much longer a core takes for its work while all other cores work.

In: a number of cores. Out: a ratio. Two cores of a virtual machine are often two threads of one
physical core. Each of them is then slower while the other one works.
"""

from __future__ import annotations

import random
import time
import zlib
from threading import Event, Thread

__all__ = ["measure"]

_REPEATS = 5
_BYTES = 1 << 18


def measure(cores: int) -> float:
    """Measure the processor time of some work, alone and beside the same work on the other cores.

    It takes about 0.2 s. The work is compression in main memory, without Python's lock.

    Args:
        cores: The number of cores, 2 or more.

    Returns:
        The shortest time beside others, divided by the shortest time alone; 1.0: the cores do not
        share anything that this work needs.
    """
    data = random.Random(0).randbytes(_BYTES // 4).hex().encode()[:_BYTES]

    def seconds() -> float:
        began = time.thread_time()
        zlib.compress(data)
        return time.thread_time() - began

    ended = Event()

    def work() -> None:
        while not ended.is_set():
            zlib.compress(data)

    alone = min(seconds() for _ in range(_REPEATS))
    others = [Thread(target=work, daemon=True) for _ in range(cores - 1)]
    for thread in others:
        thread.start()
    try:
        together = min(seconds() for _ in range(_REPEATS))
    finally:
        ended.set()
        for thread in others:
            thread.join()
    return together / alone
