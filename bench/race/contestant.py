"""One contestant of a race, in a process of its own: neither its threads nor its memory reach the
others.

In: a `Work` and the name of a module in bench/peers. Out: one measurement for each call of
`measure()`.

The process searches its best settings, opens them, checks the first batch and then works only when
asked to. Between its turns it is blocked on a full queue of its own; the batches that gathered
there are thrown away in the warm-up.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from types import TracebackType
from typing import TYPE_CHECKING, Any

from slipform.bench.race.measure import Effort, synchronize
from slipform.bench.race.work import Peer, Work
from slipform.bench.race.worker import Died, end, fork_again, isolated
from slipform.bench.result.result import Settings, Status
from slipform.pipelines.machine import peak_memory, reset_peak, resident_now

if TYPE_CHECKING:
    from torch import Tensor

START_SECONDS = 600.0  # ffcv compiles for 15 s for each setting that is tried
TURN_SECONDS = 300.0
SEARCH_NOISE = 0.03  # of the rate: what a setting must gain to replace a more usual one


@dataclass(frozen=True)
class Opening:
    """What a contestant says once it is ready, or why it is not.

    first_batch_seconds: from opening to the first batch, once for each of Effort.openings, imports
    apart; what a compiler keeps on disk is warm from the second on.
    """

    status: Status = "ok"
    note: str = ""
    settings: Settings = field(default_factory=dict)
    first_batch_seconds: tuple[float, ...] = ()


class Contestant:
    """The parent's side. Use in `with`; `opening` says whether it runs."""

    def __init__(
        self, module: str, work: Work, effort: Effort, fixed: Settings | None = None
    ) -> None:
        context = multiprocessing.get_context(
            "spawn"
        )  # not fork: no thread or lock of this process comes along
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, module, work, effort, fixed or {})
        )
        self._process.start()
        theirs.close()
        answer = self._receive(START_SECONDS)
        self.opening = (
            answer if isinstance(answer, Opening) else Opening(status="failed", note=str(answer))
        )

    def measure(self) -> dict[str, float]:
        """One repeat: images_per_second and cpu_cores. Raises RuntimeError where the contestant
        died or hangs."""
        return self._ask("measure", TURN_SECONDS)

    def memory(self) -> dict[str, float]:
        """Its peak memory so far (see slipform.pipelines.machine), and above_imports_bytes: what of
        it the libraries alone do not take."""
        return self._ask("memory", TURN_SECONDS)

    def __enter__(self) -> Contestant:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it, kindly where it listens; its own worker processes with it."""
        with contextlib.suppress(OSError):
            self._connection.send("stop")
        end(self._process, seconds=5)
        self._connection.close()

    def _ask(self, what: str, seconds: float) -> dict[str, float]:
        self._connection.send(what)
        answer = self._receive(seconds)
        if not isinstance(answer, dict):
            raise RuntimeError(str(answer))
        return answer

    def _receive(self, seconds: float) -> Any:
        if not self._connection.poll(seconds):
            return f"no answer within {seconds:.0f} seconds"
        try:
            return self._connection.recv()
        except (EOFError, ConnectionResetError):
            self._process.join(timeout=5)
            return f"its process ended with status {self._process.exitcode}"


def _serve(
    connection: Connection, module: str, work: Work, effort: Effort, fixed: Settings
) -> None:
    fork_again()
    try:
        _run(connection, module, work, effort, fixed)
    except KeyboardInterrupt:  # the parent, who got it too, says so
        return
    except ImportError as error:
        connection.send(Opening(status="not installed", note=str(error)))
    except Exception as error:
        connection.send(
            Opening(status="failed", note=f"{type(error).__name__}: {error} ({_where(error)})")
        )


def _where(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}"


def _run(connection: Connection, module: str, work: Work, effort: Effort, fixed: Settings) -> None:
    peer = importlib.import_module(f"slipform.bench.peers.{module}")
    if reason := peer.reason_not(work):
        connection.send(Opening(status="not possible", note=reason))
        return
    imports = resident_now()
    candidates = [settings | fixed for settings in peer.candidates(work)]
    candidates = [
        settings
        for number, settings in enumerate(candidates)
        if settings not in candidates[:number]
    ]
    tried: list[tuple[float, Settings]] = []
    if effort.search and len(candidates) > 1:
        found = isolated(
            _search, module, work, effort, candidates
        )  # elsewhere: what it leaves behind is not in our memory
        if isinstance(found, Died):
            raise RuntimeError(f"while settings were tried: {found.note}")
        tried = found
    settings = tried[0][1] if tried else candidates[0]
    seconds: list[float] = []
    for _ in range(effort.openings - 1):
        with _opened(peer, work, settings, seconds):
            pass
    reset_peak(work.device)
    with _opened(peer, work, settings, seconds) as batches:
        others = "; ".join(f"{_named(settings)}: {rate:.0f}" for rate, settings in tried)
        note = f"tried (images/s): {others}" if tried else "its usual settings, no search"
        connection.send(Opening(settings=settings, note=note, first_batch_seconds=tuple(seconds)))
        while (message := connection.recv()) != "stop":
            if message == "memory":
                found = peak_memory(work.device, alone=False)
                connection.send(found | {"above_imports_bytes": found["resident_bytes"] - imports})
            else:
                connection.send(timed(batches, work.device, effort, effort.seconds))


def _search(
    module: str, work: Work, effort: Effort, candidates: list[Settings]
) -> list[tuple[float, Settings]]:
    """Images per second of each of the settings, the one to take first."""
    peer = importlib.import_module(f"slipform.bench.peers.{module}")
    peer.reason_not(work)
    tried = []
    for settings in candidates:
        with peer.batches(work, settings) as batches:
            tried.append(
                (
                    timed(batches, work.device, effort, effort.search_seconds)["images_per_second"],
                    settings,
                )
            )
    return ranked(tried)


def ranked(tried: list[tuple[float, Settings]]) -> list[tuple[float, Settings]]:
    """The fastest first; but where an earlier one, which is more usual and takes less memory, is as
    fast for all that a short measurement can tell, the earliest such."""
    most = max(rate for rate, _ in tried)
    chosen = next(i for i, (rate, _) in enumerate(tried) if rate >= (1 - SEARCH_NOISE) * most)
    return [tried[chosen], *sorted(tried[:chosen] + tried[chosen + 1 :], key=lambda pair: -pair[0])]


@contextmanager
def _opened(
    peer: Peer, work: Work, settings: Settings, seconds: list[float]
) -> Iterator[Iterator[tuple[Tensor, Tensor]]]:
    """The peer's batches after the first, which is checked; the time until it was there is added to
    `seconds`."""
    start = time.perf_counter()
    with peer.batches(work, settings) as batches:
        first = next(batches)
        synchronize(work.device)
        seconds.append(time.perf_counter() - start)
        check_batch(first, work)
        yield batches


def _named(settings: Settings) -> str:
    return " ".join(f"{name}={value}" for name, value in settings.items())


def check_batch(batch: tuple[Tensor, Tensor], work: Work) -> None:
    """The output every contestant owes: shape, dtype, device, finite normalized values. Raises
    ValueError."""
    images, labels = batch
    size = work.augment.image_size
    wanted = (work.batch_size, 3, size, size)
    if tuple(images.shape) != wanted or tuple(labels.shape) != wanted[:1]:
        raise ValueError(
            f"gave images {tuple(images.shape)} and labels {tuple(labels.shape)} instead of"
            f" {wanted}"
        )
    if (
        str(images.dtype) != f"torch.{work.dtype}"
        or images.device.type != work.device.split(":")[0]
    ):
        raise ValueError(
            f"gave {images.dtype} on {images.device} instead of {work.dtype} on {work.device}"
        )
    peak, spread = float(images.abs().max()), float(images.float().std())
    if not (0.05 < spread < 5 and peak < 20):
        raise ValueError(
            f"gave values up to {peak:.3g} with standard deviation {spread:.3g}: these are no"
            " normalized images"
        )


def timed(
    batches: Iterator[tuple[Tensor, Tensor]], device: str, effort: Effort, seconds: float
) -> dict[str, float]:
    """Take batches for `seconds` (and at least effort.min_batches) after a warm-up.

    images_per_second; cpu_cores: CPU seconds of this process and its children for each second;
    where the batches come with `stats`, the loader's own account of its stages, each stage's
    seconds_per_image (threads add up).
    """
    stats: Callable[[], dict[str, float]] = getattr(batches, "stats", dict)
    _take(batches, effort.min_batches, effort.warmup_seconds)
    synchronize(device)
    before, cpu, start = stats(), cpu_seconds(), time.perf_counter()
    images = _take(batches, effort.min_batches, seconds)
    synchronize(device)
    elapsed = time.perf_counter() - start
    found = {"images_per_second": images / elapsed, "cpu_cores": (cpu_seconds() - cpu) / elapsed}
    for name, total in stats().items():
        if name.endswith("_seconds"):
            found[f"{name}_per_image"] = (total - before[name]) / images
    return found


def _take(batches: Iterator[tuple[Tensor, Tensor]], at_least: int, seconds: float) -> int:
    """Take batches until `seconds` have passed and `at_least` were seen; returns how many images
    they held."""
    images, taken = 0, 0
    end = time.perf_counter() + seconds
    while taken < at_least or time.perf_counter() < end:
        images += len(next(batches)[1])
        taken += 1
    return images


def cpu_seconds() -> float:
    """User and system time of this process and its living children, in seconds."""
    import psutil

    process = psutil.Process()
    total = 0.0
    for one in [process, *process.children(recursive=True)]:
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total
