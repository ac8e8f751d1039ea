"""Compare readers of datasets in an object store, at several latencies.

In: a dataset folder. Out: two rows for each reader and latency, for an empty and for a full cache:
images/s of a whole epoch, bytes and requests of an epoch. The server is moto's S3 server on this
machine, so it uses the same cores as the readers; a proxy in front of it adds the latency. The
other readers need the extra `readers`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from slipform.bench.options import data_argument, out_option, quick_option, typed
from slipform.bench.result.layout import Figure, Layout
from slipform.bench.result.plots import remote_bars
from slipform.bench.result.result import Row
from slipform.bench.result.verdict import Verdict, leads_of, of_leads
from slipform.bench.suites import finish, say
from slipform.pipelines.command import Command
from slipform.pipelines.errors import SlipformError

__all__ = ["LAYOUT", "command", "latencies", "run", "verdict"]


def verdict(results: Sequence[Sequence[Row]]) -> Verdict | None:
    """The speed of Slipform, compared with the fastest other reader, in each race.

    Args:
        results: The rows with figures of each result.
    """
    races = [race for rows in results for race in LAYOUT.groups(rows)]
    does = "reads images from an object store"
    return of_leads(leads_of(races), does, "the fastest other reader")


LAYOUT = Layout(
    title="Reading from an object store",
    about=(
        "Every reader has the same JPEG bytes in its own format, and makes the same batches from"
        " them. cold: the first epoch, with an empty cache and with the time of opening. warm: the"
        " second epoch."
    ),
    rank=5,
    columns=(
        "images_per_second",
        "multiple_of_litdata",
        "multiple_of_mosaic",
        "fetched_bytes",
        "epoch_requests",
    ),
    group=("data", "latency", "cache"),
    figures=(
        Figure(
            "remote",
            remote_bars,
            "Images per second of each reader; bars are medians, lines their intervals.",
        ),
    ),
    verdict=verdict,
)


def latencies(text: str) -> list[float]:
    """Parse a list of latencies.

    Args:
        text: Milliseconds, separated by commas: "0,10,50".

    Returns:
        Seconds.

    Raises:
        click.BadParameter: The text is something else.
    """
    try:
        found = [float(word) for word in text.split(",")]
    except ValueError:
        found = [-1.0]
    if not all(0 <= value <= 10_000 for value in found):
        raise click.BadParameter(
            f'"{text}": give milliseconds, separated by commas, for example 0,10,50',
            param_hint="--latency",
        )
    return [value / 1e3 for value in found]


@click.command(cls=Command)
@data_argument
@click.option(
    "--latency", default="0,10,50", show_default=True, help="Milliseconds that each request waits."
)
@click.option(
    "--images",
    type=click.IntRange(1),
    default=2048,
    show_default=True,
    help="Images of an epoch, from the train split.",
)
@click.option(
    "--batch-size", type=click.IntRange(1), default=64, show_default=True, help="Images in a batch."
)
@click.option(
    "--readers",
    default="all",
    show_default=True,
    help="Other readers: some of litdata,mosaic; all; none.",
)
@click.option(
    "--rounds", type=click.IntRange(1), default=7, show_default=True, help="Turns of each reader."
)
@quick_option
@out_option
def command(
    data: Path,
    latency: str,
    images: int,
    batch_size: int,
    readers: str,
    rounds: int,
    quick: bool,
    out: Path | None,
) -> None:
    """Compare readers of object stores on the JPEGs of the dataset folder DATA.

    The other readers, and the server, need: pip install "slipform[readers]".

    \b
    Example: bench remote data/caltech101 --latency 0,10,50
    """
    from slipform.bench.remote import chosen_readers
    from slipform.bench.result.environment import stamp

    waits, chosen, environment = latencies(latency), chosen_readers(readers), stamp()
    if quick:
        images = images if "--images" in typed() else 512
        rounds = rounds if "--rounds" in typed() else 2
        waits = waits if "--latency" in typed() else [0.0, 0.01]
    found = run(data, chosen, waits, images, batch_size, rounds, search=not quick)
    rows = finish("remote", found, out, environment)
    if all(row.status != "ok" for row in rows):
        raise SlipformError("no reader could be measured")


def run(
    data: Path,
    readers: list[str],
    waits: list[float],
    images: int,
    batch_size: int,
    rounds: int,
    search: bool,
) -> Iterator[Row]:
    """Upload the images in the formats of all readers, and measure at each latency.

    Args:
        data: The dataset folder.
        readers: Names of readers.
        waits: The latencies in seconds.
        images: Images of an epoch.
        batch_size: Images in a batch.
        rounds: Turns of each reader.
        search: Whether to search for the best settings of each reader.

    Yields:
        The rows of all races.

    Raises:
        SlipformError: The dataset has no JPEGs, or the server cannot start.
    """
    from tempfile import TemporaryDirectory

    from slipform.bench.race.remote import Conditions, copy_images, reached, run_race, upload
    from slipform.bench.race.worker import CallFailed, isolated
    from slipform.bench.remote.server import object_server
    from slipform.bench.work import stored_as, usual_work
    from slipform.pipelines.machine import num_cores
    from slipform.pipelines.manifest import read_manifest

    if stored_as(data) != "jpeg":
        raise SlipformError(f"{data} has no JPEGs: the readers decode the same JPEG bytes")
    with TemporaryDirectory(prefix="slipform-bench-") as name, object_server() as server:
        copy_images(data, images, Path(name) / "data")
        work = usual_work(
            Path(name) / "data",
            batch_size=batch_size,
            cores=num_cores(),
            device="cpu",
            dtype="float32",
        )
        with reached(server):
            urls, failures = {}, {}
            for reader in readers:
                url = server.new_folder()
                try:
                    isolated(upload, reader, work, url)
                    urls[reader] = url
                except CallFailed as failure:
                    say(f"{reader}: {failure.status}; {failure.note}")
                    failures[reader] = failure
            for wait in waits:
                conditions = Conditions(read_manifest(data).dataset, work, wait, rounds, search)
                yield from run_race(conditions, urls, failures, server, say)
