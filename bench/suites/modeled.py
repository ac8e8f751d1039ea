"""Compare the model of `bench scale` with small runs on this machine.

In: a number of images, of workers and of shards, a latency. Out: a row for each part of the work:
seconds and requests as the model says, and as measured. The workers are processes, the server is
moto's, and a proxy adds the latency. What the model assumes about this machine is measured before.
"""

from __future__ import annotations

from pathlib import Path

import click

from slipform.bench.options import out_option
from slipform.bench.result.layout import Layout
from slipform.bench.result.result import Row
from slipform.bench.suites import finish, say
from slipform.pipelines.command import Command

__all__ = ["LAYOUT", "command", "rows_of"]

LAYOUT = Layout(
    title="The model of many workers, checked",
    about="Two workers are processes of this machine, and so is the server. Their assumptions were"
    " measured before, each by itself. Seconds are those of the slowest worker, requests those of"
    " all.",
    rank=9,
    columns=("modeled_seconds", "measured_seconds", "modeled_requests", "measured_requests"),
    caption="A check of `bench scale` at a small size.",
)


@click.command(cls=Command)
@click.option(
    "--images", type=click.IntRange(128), default=4096, show_default=True,
    help="Number of generated images.",
)  # fmt: skip
@click.option(
    "--workers", type=click.IntRange(1, 8), default=2, show_default=True, help="Worker processes."
)
@click.option(
    "--shards", type=click.IntRange(1), default=8, show_default=True, help="Shards of train."
)
@click.option(
    "--latency", type=click.FloatRange(1, 2000), default=200, show_default=True,
    help="Milliseconds that each request waits. If it is short, the processor counts instead.",
)  # fmt: skip
@click.option(
    "--block", type=click.IntRange(2), default=256, show_default=True,
    help="Samples of a block, for the order in blocks.",
)  # fmt: skip
@click.option(
    "--rounds", type=click.IntRange(1), default=3, show_default=True, help="Repeats of all parts."
)
@out_option
def command(
    images: int,
    workers: int,
    shards: int,
    latency: float,
    block: int,
    rounds: int,
    out: Path | None,
) -> None:
    """Compare the model of `bench scale` with runs of a small dataset. It takes five minutes.

    \b
    Example: bench modeled --latency 200
    """
    from slipform.bench.result.environment import stamp

    environment = stamp()
    rows = rows_of(images, workers, shards, latency / 1e3, block, rounds)
    finish("modeled", rows, out, environment)


def rows_of(
    images: int, workers: int, shards: int, latency: float, block: int, rounds: int
) -> list[Row]:
    """Model and measure each part.

    Args:
        images: The number of images.
        workers: The number of workers.
        shards: The number of shards.
        latency: Seconds that each request waits.
        block: Samples of a block.
        rounds: How often all is measured.
    """
    from tempfile import TemporaryDirectory

    from slipform.bench.race.measure import estimate
    from slipform.bench.race.remote import reached
    from slipform.bench.remote.server import object_server
    from slipform.bench.scale.drawn import draw_images
    from slipform.bench.scale.measured import Case, measured, with_measured

    with TemporaryDirectory(prefix="slipform-bench-") as name, object_server() as server:
        folder = Path(name)
        source, local = folder / "source", folder / "local"
        source.mkdir()
        say(f"{images:,} images of noise")
        given = draw_images(source, images, workers, shards, latency)
        with reached(server):
            server.latency = latency
            case = with_measured(Case(source, given, block), server, local)
            runs = []
            for number in range(rounds):
                say(f"round {number + 1} of {rounds}")
                runs.append(measured(case, server, local, folder / f"caches-{number}"))
    assumed = case.given.some(
        "samples", "num_bytes", "spread", "workers", "shards", "latency", "bandwidth",
        "bookkeeping_seconds", "core_bandwidth", "batch_size", "step_images_per_second",
    )  # fmt: skip
    rows = []
    for parts in zip(*runs, strict=True):
        first = parts[0]
        figures = {
            "modeled_seconds": estimate([first.modeled_seconds]),
            "measured_seconds": estimate([part.seconds for part in parts]),
            "modeled_requests": estimate([first.modeled_requests]),
            "measured_requests": estimate([part.requests for part in parts]),
        }
        rows.append(
            Row(suite="modeled", case={"part": first.name}, settings=assumed, figures=figures)
        )
    return rows
