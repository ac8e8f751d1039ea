"""A contestant of the loaders' race: a peer with a process of its own, so that neither its threads
nor its memory reach the others.

In: a `Work` and the name of a module in bench/peers. Out: one measurement for each `measure()`.

The process opens the peer with its best settings, checks the first batch and then works only while
it is measured. Between its turns it is blocked on its own full queue; the batches that gathered
there are thrown away in the warm-up.
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
from slipform.pipelines.machine import peak_memory, reset_peak, resident_now
from slipform.pipelines.measure import fastest, rounds_needed

if TYPE_CHECKING:
    from torch import Tensor

START_SECONDS = 600.0  # ffcv compiles for 15 s for each setting that is tried
TURN_SECONDS = 300.0
# The settings of a search do not take turns (all of them open at once need too much memory), so
# drift of the machine is part of their differences. A gain below this share is none.
SEARCH_MARGIN = 0.03


@dataclass(frozen=True)
class Opening:
    """How a contestant started.

    Args:
        status: "ok", or the reason why it does not take part, as in a row.
        note: The reason in words, or what the search found.
        settings: What it runs with.
        first_batch_seconds: From opening to the first batch without imports, once for each of
            Effort.openings. What a compiler keeps on disk is warm from the second on.
    """

    status: Status = "ok"
    note: str = ""
    settings: Settings = field(default_factory=dict)
    first_batch_seconds: tuple[float, ...] = ()


class Contestant:
    """A peer that can be measured. Use in `with`; `opening` says whether it runs.

    Args:
        name: A module in bench/peers.
        work: What it does.
        effort: Whether its settings are searched, and how long it is measured.
        fixed: Settings that are not searched.
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

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self._worker.pid

    def measure(self) -> dict[str, float]:
        """Measure it once.

        Returns:
            images_per_second, cpu_cores, and the seconds_per_image of the stages it tells of.

        Raises:
            CallFailed: It raised, died or hangs.
        """
        return dict(self._worker.call(OpenPeer.measure, self._effort, seconds=TURN_SECONDS))

    def memory(self) -> dict[str, float]:
        """Its peak memory so far.

        Returns:
            What slipform.pipelines.machine.peak_memory says, and above_imports_bytes: the part of
            resident_bytes that was not there after the imports.

        Raises:
            CallFailed: As for `measure`.
        """
        return dict(self._worker.call(OpenPeer.memory, seconds=TURN_SECONDS))

    def __enter__(self) -> Contestant:
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.__exit__()

    def _open(self, name: str, work: Work, fixed: Settings) -> Opening:
        candidates = self._worker.call(candidates_of, name, work, fixed, seconds=START_SECONDS)
        settings, note = candidates[0], "its usual settings, no search"
        if self._effort.search and len(candidates) > 1:
            # In another process: the memory that the tried settings took is not this contestant's.
            try:
                tried = isolated(
                    try_settings, name, work, self._effort, candidates, seconds=START_SECONDS
                )
            except CallFailed as failure:
                note = f"while settings were tried: {failure.note}"
                raise CallFailed(note, failure.status) from None
            settings, note = chosen_settings(candidates, tried)
        self._worker.keep(
            open_peer, name, work, settings, self._effort.openings, seconds=START_SECONDS
        )
        seconds = self._worker.call(OpenPeer.first_batches)
        return Opening(settings=settings, note=note, first_batch_seconds=seconds)


@dataclass
class OpenPeer:
    """A peer that gives batches, in the contestant's process."""

    batches: Iterator[tuple[Tensor, Tensor]]
    device: str
    import_bytes: int
    seconds: tuple[float, ...]

    def first_batches(self) -> tuple[float, ...]:
        """Seconds from each opening to its first batch."""
        return self.seconds

    def measure(self, effort: Effort) -> dict[str, float]:
        """One repeat."""
        return timed(self.batches, self.device, effort)

    def memory(self) -> dict[str, float]:
        """Peak memory, and what of it is above the imports."""
        found = peak_memory(self.device, alone=False)
        return found | {"above_imports_bytes": found["resident_bytes"] - self.import_bytes}


def candidates_of(name: str, work: Work, fixed: Settings) -> list[Settings]:
    """The settings that a peer can try.

    Args:
        name: A module in bench/peers; it is imported, and what it needs as well.
        work: What it does.
        fixed: Settings that every candidate gets.

    Returns:
        The candidates without repetition, the usual one first.

    Raises:
        NotPossible: It cannot do this work.
        ImportError: It is not installed.
    """
    peer = load_peer(name)
    if reason := peer.reason_not(work):
        raise NotPossible(reason)
    found: list[Settings] = []
    for settings in peer.candidates(work):
        if settings | fixed not in found:
            found.append(settings | fixed)
    return found


def try_settings(
    name: str, work: Work, effort: Effort, candidates: list[Settings]
) -> list[list[float]]:
    """Measure each candidate for about effort.search_seconds, in as many spans as `fastest` needs.

    Args:
        name: A module in bench/peers.
        work: What it does.
        effort: Warm-up and span.
        candidates: Settings.

    Returns:
        For each candidate its images per second in every span.
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
    """The candidate to take, and what was tried in words.

    Args:
        candidates: Settings, the usual ones first.
        rates: For each the images per second of every span.

    Returns:
        The usual settings, unless others are faster beyond the noise of the search (see
        `slipform.pipelines.measure.fastest`) and by more than SEARCH_MARGIN.
    """
    chosen = fastest(rates, SEARCH_MARGIN)
    named = [" ".join(f"{name}={value}" for name, value in one.items()) for one in candidates]
    medians = [sorted(found)[len(found) // 2] for found in rates]
    others = sorted(set(range(len(rates))) - {chosen}, key=lambda number: -medians[number])
    words = [f"{named[number]}: {medians[number]:.0f}" for number in [chosen, *others]]
    return candidates[chosen], f"tried (images/s): {'; '.join(words)}"


@contextmanager
def open_peer(name: str, work: Work, settings: Settings, openings: int) -> Iterator[OpenPeer]:
    """Open a peer several times and keep it open the last time.

    Args:
        name: A module in bench/peers, already imported by `candidates_of`.
        work: What it does.
        settings: What it runs with.
        openings: How often the time to the first batch is measured.

    Yields:
        The open peer; its first batch was checked.

    Raises:
        ValueError: Its first batch is not what `work` asks for.
    """
    peer = load_peer(name)
    imports = resident_now()
    seconds: list[float] = []
    for _ in range(openings - 1):
        with _first_checked(peer, work, settings, seconds):
            pass
    reset_peak(work.device)
    with _first_checked(peer, work, settings, seconds) as batches:
        yield OpenPeer(batches, work.device, imports, tuple(seconds))


@contextmanager
def _first_checked(
    peer: Peer, work: Work, settings: Settings, seconds: list[float]
) -> Iterator[Iterator[tuple[Tensor, Tensor]]]:
    """The peer's batches after the first; the time until that was there is added to `seconds`."""
    start = time.perf_counter()
    with peer.batches(work, settings) as batches:
        first = next(batches)
        synchronize(work.device)
        seconds.append(time.perf_counter() - start)
        work.check(first)
        yield batches
