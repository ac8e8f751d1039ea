"""The items of `bench gpu`: each runs in its own process, and has a time limit.

In: items. Out: their rows, or rows with the reason why nothing was measured.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from slipform.bench.race import gpu
from slipform.bench.race.gpu import Measured
from slipform.bench.race.worker import CallFailed, Worker, isolated
from slipform.bench.result.result import Row, Settings, Status
from slipform.pipelines.unclosed import GeneratorPool

__all__ = ["Item", "run", "together"]

_TOGETHER = 4  # items that are prepared at the same time
_PREPARE = 0.7  # the share of the time in which they must be prepared
_MIN_SECONDS = 5.0  # an item with less time is not started


@dataclass(frozen=True)
class Item:
    """A piece of a part, which runs in its own process.

    Attributes:
        part: The name of the part.
        what: The name of the item within the part.
        weight: The item's share of the remaining time, relative to the weights of the other items.
        measure: A function that can be imported; it returns `Measured` values.
        arguments: The arguments of `measure`.
        lacks: Why the item is not possible; "" if it is.
        prepared: Whether `measure` returns a context manager of an object with a method `measure`
            instead. Several such items are prepared at the same time: compiling takes longer than
            measuring, and uses few cores.
    """

    part: str
    what: str
    weight: float
    measure: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    lacks: str = ""
    prepared: bool = False


def together(items: list[Item]) -> list[Item]:
    """The first items that are prepared at the same time; otherwise the first item alone.

    Args:
        items: The items that are left; at least one.
    """
    ready = itertools.takewhile(lambda item: item.prepared and not item.lacks, items)
    return list(itertools.islice(ready, _TOGETHER)) or items[:1]


def run(items: list[Item], seconds: float, say: Callable[[str], None]) -> Iterator[Row]:
    """Measure an item, or items that are prepared at the same time.

    Args:
        items: From `together`.
        seconds: The time limit for all of them.
        say: Called with a message about the items.

    Yields:
        The rows of each item. If nothing was measured, one row with the reason.
    """
    if seconds < _MIN_SECONDS or items[0].lacks:
        for item in items:
            yield _without(item, "not possible", item.lacks or "no time was left")
    elif items[0].prepared:
        yield from _prepared(items, seconds, say)
    else:
        yield from _alone(items[0], seconds, say)


def _alone(item: Item, seconds: float, say: Callable[[str], None]) -> list[Row]:
    say(f"{item.part}: {item.what}, at most {seconds:.0f} s")
    # The tests end earlier: otherwise the list of the failures would be lost.
    arguments = (
        (max(seconds - 15.0, 0.5 * seconds),) if item.measure is gpu.tests else item.arguments
    )
    try:
        found = isolated(item.measure, *arguments, seconds=seconds)
    except CallFailed as failure:
        say(f"  {failure.status}: {failure.note}")
        return [_without(item, failure.status, failure.note)]
    return _rows(item, found)


def _prepared(items: list[Item], seconds: float, say: Callable[[str], None]) -> Iterator[Row]:
    """Prepare items at the same time, each in its own process, and measure one after another. An
    item that lacked memory beside the others is tried again alone."""
    ends, again = time.monotonic() + seconds, list[Item]()
    names = ", ".join(item.what for item in items)
    say(f"{items[0].part}: {names}, at most {seconds:.0f} s")
    with ExitStack() as stack, GeneratorPool(len(items)) as threads:
        workers = [stack.enter_context(Worker()) for _ in items]
        kept = [
            threads.submit(worker.keep, item.measure, *item.arguments, seconds=_PREPARE * seconds)
            for worker, item in zip(workers, items, strict=True)
        ]
        wait(kept)
        for worker, item, ready in zip(workers, items, kept, strict=True):
            try:
                ready.result()
                left = max(_MIN_SECONDS, ends - time.monotonic())
                found = worker.call(_measure_prepared, seconds=left)
            except CallFailed as failure:
                if failure.status == "out of memory" and len(items) > 1:
                    again.append(item)
                else:
                    say(f"  {item.what} {failure.status}: {failure.note}")
                    yield _without(item, failure.status, failure.note)
                continue
            finally:
                worker.close()
            yield from _rows(item, found)
    for item in again:
        yield from run([item], ends - time.monotonic(), say)


def _measure_prepared(ready: Any) -> list[Measured]:
    return ready.measure()


def _rows(item: Item, found: list[Measured]) -> list[Row]:
    case: Settings = {"part": item.part}
    return [
        Row(
            suite="gpu",
            case=case | {"what": one.what},
            settings=one.settings,
            figures=one.figures,
            note=one.note,
        )
        for one in found
    ]


def _without(item: Item, status: Status, note: str) -> Row:
    """The row of an item that was not measured."""
    case: Settings = {"part": item.part, "what": item.what}
    return Row(suite="gpu", case=case, status=status, note=note)
