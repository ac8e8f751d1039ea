"""The store by which the processes of a run find each other: `fresh_store`.

In: the environment that torchrun sets, the rank. Out: a store without keys of earlier processes.
"""

from __future__ import annotations

import secrets
import time
from datetime import timedelta

from torch.distributed import PrefixStore, Store  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous

from slipform.pipelines.errors import SlipformError

__all__ = ["agreed_name", "fresh_store"]

_TIMEOUT = timedelta(minutes=30)  # as for all operations of torch.distributed
_PAUSE = 0.01  # seconds


def fresh_store(rank: int, world_size: int) -> Store:
    """Join the other processes.

    torchrun keeps its store when it starts processes again. The store then has the addresses of
    processes that have ended, and a new process would try to reach them (pytorch issue 135712).

    Args:
        rank: The number of this process.
        world_size: The number of processes. Each of them calls this function.

    Returns:
        The store of torchrun, with a prefix that is new.

    Raises:
        SlipformError: Another process did not come within 30 minutes.
    """
    store, _, _ = next(iter(rendezvous("env://", timeout=_TIMEOUT)))
    return PrefixStore(agreed_name(store, rank, world_size), store)


def agreed_name(store: Store, rank: int, world_size: int) -> str:
    """A new name on which all processes agree, in a store that may have any old keys.

    Process 0 makes the name. It tells it to everybody who asks, also to those who asked before they
    ended, until each process has confirmed it.

    Args:
        store: The store.
        rank: The number of this process.
        world_size: The number of processes.

    Raises:
        SlipformError: Another process did not come within 30 minutes.
    """
    own = secrets.token_hex(8)
    if rank:
        store.set(f"slipform/asks/{rank}", own)
        store.wait([f"slipform/told/{own}"], _TIMEOUT)
        name = store.get(f"slipform/told/{own}").decode()
        store.set(f"slipform/confirmed/{name}/{rank}", "")
        return name
    missing, until = set(range(1, world_size)), time.monotonic() + _TIMEOUT.total_seconds()
    while missing:
        for other in sorted(missing):
            if store.check([f"slipform/asks/{other}"]):
                asker = store.get(f"slipform/asks/{other}").decode()
                store.set(f"slipform/told/{asker}", own)
            if store.check([f"slipform/confirmed/{own}/{other}"]):
                missing.remove(other)
        if time.monotonic() > until:
            raise SlipformError(
                f"process {min(missing)} of {world_size} has not started within 30 minutes: read"
                " its messages, then start all processes again"
            )
        time.sleep(_PAUSE if missing else 0)
    return own
