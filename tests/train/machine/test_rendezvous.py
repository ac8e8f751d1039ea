"""Processes that start again agree on a new name, whatever keys the ended ones have left."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from torch.distributed import HashStore, Store  # type: ignore[attr-defined]

from slipform.train.machine.rendezvous import agreed_name


def _start(store: Store, world_size: int, order: list[int]) -> str:
    """Start processes in an order. Returns their name."""
    with ThreadPoolExecutor(world_size) as pool:
        begun = [pool.submit(agreed_name, store, rank, world_size) for rank in order]
        (name,) = {one.result() for one in begun}
    return name


def test_each_start_has_a_name_of_its_own() -> None:
    store = HashStore()
    orders = ([0, 1, 2], [2, 1, 0], [1, 0], [1, 0, 2, 3], [0])
    names = [_start(store, len(order), order) for order in orders]
    assert len(set(names)) == len(names)


def test_a_process_that_ended_before_it_had_an_answer() -> None:
    store = HashStore()
    for rank in (1, 2):
        store.set(f"slipform/asks/{rank}", "ended")
    first = _start(store, 3, [0, 2, 1])
    assert _start(store, 3, [0, 1, 2]) != first
