"""A contestant of the loaders' race: a peer in its own process, with its own threads and memory.

In: a `Work` and the name of a module in bench/peers. Out: one measurement for each `measure()`.

The process opens the peer with its best settings and checks the first batch. After that it works
only while it is measured: its queue is full between its turns, and its threads wait. The warm-up
discards the batches in the queue.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from slipform.bench.peers import Peer, load_peer
from slipform.bench.race.race import Effort, synchronize, timed
from slipform.bench.race.worker import CallFailed, NotPossible, Worker, isolated
from slipform.bench.result.result import Settings, Status
from slipform.bench.work import Work
from slipform.pipelines.fastest import fastest, rounds_needed
from slipform.pipelines.machine import peak_memory, reset_peak, resident_now

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Contestant", "Opening", "chosen_settings"]

_START_SECONDS = 600.0  # ffcv compiles for 15 s for each setting that is tried
_TURN_SECONDS = 300.0
# The settings of a search are measured one after the other: all loaders at once need too much
# memory. Their differences therefore include the drift of the machine. A smaller gain is ignored.
_SEARCH_MARGIN = 0.03


@dataclass(frozen=True)
class Opening:
    """The start of a contestant.

    Attributes:
        status: "ok", or the reason why it does not take part, as in a row.
        note: The reason as text, or the result of the search.
        settings: The settings of the peer.
        first_batch_seconds: Seconds from opening to the first batch, without imports, once for each
            of Effort.openings. The disk caches of compilers are warm from the second one on.
    """

    status: Status = "ok"
    note: str = ""
    settings: Settings = field(default_factory=dict)
    first_batch_seconds: tuple[float, ...] = ()


class Contestant:
    """A peer in its own process. Use it in a `with` statement.

    Args:
        name: A module in bench/peers.
        work: The work.
        effort: Whether its settings are searched, and how long it is measured.
        fixed: Settings that are not searched. Default: none.

    Attributes:
        opening: Whether and how it started.
    """

    def __init__(
        self, name: str, work: Work, effort: Effort, fixed: Settings | None = None
    ) -> None:
        self._worker = Worker()
        self._effort = effort
        try:
            self.opening = self._open(name, work, fixed or {})
        except CallFailed as failure:
            self.opening = Opening(status=failure.status, note=failure.note)
        except BaseException:  # Ctrl-C: no `with` statement would end the process
            self._worker.__exit__()
            raise

    @property
    def pid(self) -> int:
        """The id of its process."""
        return self._worker.pid

    def measure(self) -> dict[str, float]:
        """Measure the peer once.

        Returns:
            images_per_second, cpu_cores, and seconds_per_image of the stages that it reports.

        Raises:
            CallFailed: The peer raised an exception, died or hangs.
        """
        return dict(self._worker.call(_OpenPeer.measure, self._effort, seconds=_TURN_SECONDS))

    def memory(self) -> dict[str, float]:
        """The peak memory of the process so far.

        Returns:
            The result of slipform.pipelines.machine.peak_memory, and above_imports_bytes:
            resident_bytes minus the resident memory after the imports.

        Raises:
            CallFailed: See `measure`.
        """
        return dict(self._worker.call(_OpenPeer.memory, seconds=_TURN_SECONDS))

    def __enter__(self) -> Contestant:
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.__exit__()

    def _open(self, name: str, work: Work, fixed: Settings) -> Opening:
        candidates = self._worker.call(_candidates_of, name, work, fixed, seconds=_START_SECONDS)
        settings, note = candidates[0], "its usual settings, no search"
        if self._effort.search and len(candidates) > 1:
            # In another process: the memory of the search does not count for this contestant.
            try:
                tried = isolated(
                    _try_settings, name, work, self._effort, candidates, seconds=_START_SECONDS
                )
            except CallFailed as failure:
                note = f"while settings were tried: {failure.note}"
                raise CallFailed(note, failure.status) from None
            settings, note = chosen_settings(candidates, tried)
        self._worker.keep(
            _open_peer, name, work, settings, self._effort.openings, seconds=_START_SECONDS
        )
        seconds = self._worker.call(_OpenPeer.first_batches)
        return Opening(settings=settings, note=note, first_batch_seconds=seconds)


@dataclass
class _OpenPeer:
    """An open peer, in the process of the contestant."""

    batches: Iterator[tuple[Tensor, Tensor]]
    device: str
    import_bytes: int
    seconds: tuple[float, ...]

    def first_batches(self) -> tuple[float, ...]:
        return self.seconds

    def measure(self, effort: Effort) -> dict[str, float]:
        return timed(self.batches, self.device, effort)

    def memory(self) -> dict[str, float]:
        found = peak_memory(self.device, alone=False)
        return found | {"above_imports_bytes": found["resident_bytes"] - self.import_bytes}


def _candidates_of(name: str, work: Work, fixed: Settings) -> list[Settings]:
    """The settings that a peer can try, with `fixed` in each, the usual ones first.

    Raise NotPossible if the peer cannot do the work, ImportError if it is not installed.
    """
    peer = load_peer(name)
    if reason := peer.reason_not(work):
        raise NotPossible(reason)
    found: list[Settings] = []
    for settings in peer.candidates(work):
        if settings | fixed not in found:
            found.append(settings | fixed)
    return found


def _try_settings(
    name: str, work: Work, effort: Effort, candidates: list[Settings]
) -> list[list[float]]:
    """Measure each candidate for about effort.search_seconds, in as many spans as `fastest` needs.

    Return the images per second of each candidate in every span.
    """
    peer = load_peer(name)
    peer.reason_not(work)
    spans = rounds_needed(len(candidates))
    span = replace(
        effort,
        seconds=effort.search_seconds / spans,
        warmup_seconds=0.0,
        min_batches=max(1, effort.min_batches // 2),
    )
    warmup = replace(effort, seconds=0.0)
    found = []
    for settings in candidates:
        with peer.batches(work, settings) as batches:
            timed(batches, work.device, warmup)
            measured = [timed(batches, work.device, span) for _ in range(spans)]
        found.append([one["images_per_second"] for one in measured])
    return found


def chosen_settings(candidates: list[Settings], rates: list[list[float]]) -> tuple[Settings, str]:
    """Choose the settings after a search.

    Args:
        candidates: The settings that were tried, the usual ones first.
        rates: For each of them, the images per second of every span.

    Returns:
        The chosen settings, and a text about the search. These are the usual settings, unless
        others are faster beyond the noise (see `fastest`) and by more than 3 %.
    """
    chosen = fastest(rates, _SEARCH_MARGIN)
    named = [" ".join(f"{name}={value}" for name, value in one.items()) for one in candidates]
    medians = [sorted(found)[len(found) // 2] for found in rates]
    others = sorted(set(range(len(rates))) - {chosen}, key=lambda number: -medians[number])
    words = [f"{named[number]}: {medians[number]:.0f}" for number in [chosen, *others]]
    return candidates[chosen], f"tried (images/s): {'; '.join(words)}"


@contextmanager
def _open_peer(name: str, work: Work, settings: Settings, openings: int) -> Iterator[_OpenPeer]:
    """Open a peer several times, to measure the time to the first batch, and keep the last one.

    `_candidates_of` has imported it. Raise ValueError if its first batch is wrong.
    """
    peer = load_peer(name)
    imports = resident_now()
    seconds: list[float] = []
    for _ in range(openings - 1):
        with _first_checked(peer, work, settings, seconds):
            pass
    reset_peak(work.device)
    with _first_checked(peer, work, settings, seconds) as batches:
        yield _OpenPeer(batches, work.device, imports, tuple(seconds))


@contextmanager
def _first_checked(
    peer: Peer, work: Work, settings: Settings, seconds: list[float]
) -> Iterator[Iterator[tuple[Tensor, Tensor]]]:
    """The batches of a peer after the first one, whose time is added to `seconds`."""
    start = time.perf_counter()
    with peer.batches(work, settings) as batches:
        first = next(batches)
        synchronize(work.device)
        seconds.append(time.perf_counter() - start)
        work.check(first)
        yield batches
