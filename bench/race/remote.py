"""The race of readers of object stores: whole epochs, from an empty cache and from a full one.

In: a dataset folder, readers, latencies. Out: rows. In a turn, a reader gets a new process and an
empty cache. It opens the dataset and reads two epochs: the first one is cold, the second one warm.
The time of opening counts in the first one, and the time of imports does not.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from slipform.bench.race.contestant import chosen_settings
from slipform.bench.race.race import Rounds, race
from slipform.bench.race.worker import CallFailed, Worker
from slipform.bench.remote import OURS, Epoch, Remote, load_reader
from slipform.bench.remote.server import ObjectServer
from slipform.bench.result.result import Estimate, Row, Settings
from slipform.bench.work import Work
from slipform.pipelines.dataset import open_split
from slipform.pipelines.errors import ConfigError
from slipform.pipelines.fastest import rounds_needed
from slipform.pipelines.manifest import read_manifest
from slipform.pipelines.remote.store import open_store
from slipform.preprocess.build import build_dataset
from slipform.preprocess.encode import Encoding
from slipform.preprocess.source import Generated, SampleSource

__all__ = ["CACHES", "Conditions", "copy_images", "reached", "run_race", "turn", "upload"]

CACHES = ("cold", "warm")
_RATE = "images_per_second"
_OPEN_SECONDS, _EPOCH_SECONDS = 600.0, 1800.0


@dataclass(frozen=True)
class Conditions:
    """The conditions of a race.

    Attributes:
        data: The name of the dataset.
        work: The work. All readers have its images.
        latency: Seconds that each request waits.
        rounds: Turns of each reader.
        search: Whether to search for the best settings of each reader.
    """

    data: str
    work: Work
    latency: float
    rounds: int
    search: bool

    def case(self, reader: str, cache: str) -> Settings:
        """The case of a row.

        Args:
            reader: The name of the reader.
            cache: One of `CACHES`.
        """
        return {
            "data": self.data,
            "latency": f"{self.latency * 1e3:g} ms",
            "cache": cache,
            "loader": reader,
            "batch_size": self.work.batch_size,
            "image_size": self.work.augment.image_size,
        }


def copy_images(folder: Path, count: int, out: Path) -> None:
    """Write a dataset of evenly spaced images of a train split, with unchanged bytes.

    Args:
        folder: The dataset folder; its train split has JPEGs.
        count: The number of images. If there are fewer, all are taken.
        out: The dataset folder to write.
    """
    manifest = read_manifest(folder)
    beton = open_split(folder, manifest, "train")
    chosen = np.unique(np.linspace(0, len(beton) - 1, min(count, len(beton))).astype(int))

    def stored(index: int) -> bytes:
        return beton.bytes_of(int(chosen[index])).tobytes()

    source = SampleSource(
        dataset=manifest.dataset,
        classes=manifest.classes,
        splits={"train": Generated(stored, beton.labels[chosen], "train")},
        split_rule=f"{len(chosen)} images of train",
    )
    build_dataset(source, out, Encoding(check=False))


def upload(reader: str, work: Work, url: str) -> None:
    """Write the images of a work in the format of a reader to an object store.

    Args:
        reader: The name of the reader.
        work: The work.
        url: An empty folder in the store.

    Raises:
        ImportError: The reader is not installed.
        StorageError: The upload failed.
    """
    module = load_reader(reader)
    module.check_installed()
    store = open_store(url)
    with TemporaryDirectory(prefix="slipform-bench-") as name:
        folder = Path(name)
        module.write(work, folder)
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            store.put_file(path.relative_to(folder).as_posix(), path)


def run_race(
    conditions: Conditions,
    urls: Mapping[str, str],
    not_uploaded: Mapping[str, CallFailed],
    server: ObjectServer,
    say: Callable[[str], None],
) -> list[Row]:
    """Measure readers in turns.

    Args:
        conditions: The conditions.
        urls: Name of a reader -> its dataset.
        not_uploaded: Name of a reader that cannot take part -> the reason.
        server: The server of the datasets. The environment has its address.
        say: Called with a message about each reader.

    Returns:
        Two rows for each reader: cold and warm. The rows of one that fails have the reason.
    """
    server.latency = conditions.latency
    chosen: dict[str, tuple[Settings, str]] = {}
    failures = dict(not_uploaded)
    for name, url in urls.items():
        remote = Remote(conditions.work, url, "")
        try:
            chosen[name] = _settings(name, remote, server, conditions.search)
            say(f"{conditions.latency * 1e3:g} ms: {name}: {chosen[name][1]}")
        except CallFailed as failure:
            failures[name] = failure
            say(f"{conditions.latency * 1e3:g} ms: {name}: {failure.status}; {failure.note}")
    turns = {
        name: partial(turn, name, Remote(conditions.work, urls[name], ""), settings, server)
        for name, (settings, _) in chosen.items()
    }
    found = race(turns, conditions.rounds, say=say)
    failures |= found.failures
    rows = []
    for name in [*urls, *not_uploaded]:
        for cache in CACHES:
            case = conditions.case(name, cache)
            if name in failures:
                status, note = failures[name].status, failures[name].note
                rows.append(Row(suite="remote", case=case, status=status, note=note))
                continue
            settings, note = chosen[name]
            figures = _figures(name, cache, found)
            rows.append(
                Row(suite="remote", case=case, settings=settings, figures=figures, note=note)
            )
    return rows


def _figures(name: str, cache: str, found: Rounds) -> dict[str, Estimate]:
    """The figures of a row. Slipform's are compared with each other reader."""
    every, prefix = found.estimates(name), f"{cache}_"
    figures = {
        key.removeprefix(prefix): value for key, value in every.items() if key.startswith(prefix)
    }
    if name == OURS:
        for other in found.values:
            if other != name:
                figures[f"multiple_of_{other}"] = found.ratio(name, other, prefix + _RATE)
    return figures


def _settings(
    name: str, remote: Remote, server: ObjectServer, search: bool
) -> tuple[Settings, str]:
    """The settings of a reader, and a text about the search."""
    candidates = load_reader(name).candidates(remote.work)
    if not search or len(candidates) == 1:
        return candidates[0], "its usual settings, no search"
    rates: list[list[float]] = [[] for _ in candidates]
    for _ in range(rounds_needed(len(candidates))):
        for number, settings in enumerate(candidates):
            rates[number].append(turn(name, remote, settings, server)[f"cold_{_RATE}"])
    return chosen_settings(candidates, rates)


def turn(name: str, remote: Remote, settings: Settings, server: ObjectServer) -> dict[str, float]:
    """Read two epochs in a new process with an empty cache.

    Args:
        name: The name of the reader.
        remote: The dataset. Its cache is not used: each turn has its own.
        settings: The settings of the reader.
        server: The server of the dataset.

    Returns:
        For each of `CACHES`, with its name before: images_per_second, fetched_bytes (bodies of
        answers) and epoch_requests.

    Raises:
        CallFailed: The reader is not installed, raised an exception, died or hangs.
    """
    found: dict[str, float] = {}
    with TemporaryDirectory(prefix="slipform-bench-") as cache, Worker() as worker:
        server.requests.clear()
        own = replace(remote, cache=cache)
        worker.keep(_opened, name, own, settings, seconds=_OPEN_SECONDS)
        for state in CACHES:
            images, seconds = worker.call(_Reading.read, seconds=_EPOCH_SECONDS)
            found[f"{state}_{_RATE}"] = images / seconds
            found[f"{state}_fetched_bytes"] = float(server.num_bytes)
            found[f"{state}_epoch_requests"] = float(len(server.requests))
            server.requests.clear()
    return found


class _Reading:
    """An open reader, in its process."""

    def __init__(self, epoch: Epoch, work: Work, opened: float) -> None:
        self._epoch, self._work, self._opened = epoch, work, opened

    def read(self) -> tuple[int, float]:
        """Read an epoch. Returns the number of images, and the seconds.

        The seconds of the first epoch include those of opening.
        """
        begin, images = time.perf_counter() - self._opened, 0
        for batch in self._epoch():
            if not images:
                self._work.check(batch)
            images += len(batch[1])
        self._opened = 0.0
        if not images:
            raise ConfigError(
                "an epoch has no whole batch: give more --images, or a smaller --batch-size"
            )
        return images, time.perf_counter() - begin


@contextmanager
def _opened(name: str, remote: Remote, settings: Settings) -> Iterator[_Reading]:
    """Open a reader. Imports are done before the time is taken."""
    reader = load_reader(name)
    reader.check_installed()
    begin = time.perf_counter()
    with reader.epochs(remote, settings) as epoch:
        yield _Reading(epoch, remote.work, time.perf_counter() - begin)


@contextmanager
def reached(server: ObjectServer) -> Iterator[None]:
    """Within the block, the environment of this process and its children names the server.

    Args:
        server: The server.
    """
    before = dict(os.environ)
    os.environ.update(server.environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
