"""Simulate many workers: prepare a large dataset, and train from an object store.

In: assumptions about the dataset, the machines and the network. Out: a row for each part of the
work: seconds, requests, bytes, memory. Nothing is measured here. The order of the samples, the
shards and the tables are the real ones, for all samples; bench/scale has the models.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from slipform.bench.options import out_option
from slipform.bench.result.layout import Layout
from slipform.bench.result.result import Estimate, Row, Settings
from slipform.bench.scale.assumptions import Assumptions, assumption_options
from slipform.bench.suites import finish, say
from slipform.pipelines.command import Command

__all__ = ["LAYOUT", "command", "rows_of"]

LAYOUT = Layout(
    title="Many workers, simulated",
    about="No figure here was measured: each follows from the assumptions beside it, and from the"
    " real order of the samples. Seconds are those of the slowest worker. Requests and bytes are"
    " those of all workers. Blocks of the worker's own: an order that Slipform does not have.",
    rank=8,
    columns=(
        "slowest_worker_seconds", "requests", "store_bytes", "fetched_ratio", "wait_share",
        "kept_share", "worker_bytes", "cache_bytes",
    ),
    group=("phase",),
    caption="Results of a simulation, not of a measurement.",
)  # fmt: skip


@click.command(cls=Command)
@assumption_options
@click.option(
    "--block", type=click.IntRange(2), default=1024, show_default=True,
    help="Samples of a block, for the order in blocks (data.block).",
)  # fmt: skip
@click.option(
    "--cache-bytes", type=click.FloatRange(0), default=100e9, show_default=True,
    help="Bytes that the cache of a worker keeps from epoch to epoch.",
)  # fmt: skip
@click.option(
    "--timed", type=click.IntRange(1), default=2, show_default=True,
    help="Workers whose epoch is simulated request by request. All are counted.",
)  # fmt: skip
@out_option
def command(block: int, cache_bytes: float, timed: int, out: Path | None, **values: Any) -> None:
    """Simulate many workers that prepare a large dataset and train from an object store.

    The defaults are ImageNet-21k on 64 workers: a minute, and 1 GB of memory.

    \b
    Examples:
      bench scale
      bench scale --latency 0.1 --store-requests 50000
      bench scale --samples 1281167 --num-bytes 140e9 --workers 8 --shards 64
    """
    from slipform.bench.result.environment import stamp

    environment = stamp()
    rows = rows_of(Assumptions(**values), block, cache_bytes, timed)
    finish("scale", rows, out, environment)


def _row(phase: str, way: str, figures: dict[str, float], assumed: Settings) -> Row:
    once = {
        name: Estimate(median=value, low=value, high=value, repeats=1)
        for name, value in figures.items()
    }
    return Row(suite="scale", case={"phase": phase, "way": way}, settings=assumed, figures=once)


def rows_of(given: Assumptions, block: int, cache_bytes: float, timed: int) -> list[Row]:
    """Simulate all parts of the work.

    Args:
        given: The assumptions.
        block: Samples of a block, for the order in blocks.
        cache_bytes: What the cache of a worker keeps from epoch to epoch.
        timed: The number of workers whose time is simulated.
    """
    import numpy as np

    from slipform.bench.scale.preparing import preparing
    from slipform.bench.scale.reads import samples_of
    from slipform.bench.scale.tables import made_tables
    from slipform.bench.scale.training import (
        kept_share,
        opening,
        order_of,
        own_samples,
        training,
    )

    say(f"tables of {given.samples:,} samples")
    tables = made_tables(given)
    rows = [
        _row(
            "prepare",
            phase.name,
            {
                "slowest_worker_seconds": phase.seconds,
                "requests": phase.requests,
                "store_bytes": phase.num_bytes,
                **({"worker_bytes": phase.memory} if phase.memory else {}),
            },
            phase.assumed,
        )
        for phase in preparing(given, tables)
    ]
    begin = opening(given)
    figures = {
        "slowest_worker_seconds": begin.seconds,
        "requests": begin.requests,
        "store_bytes": begin.num_bytes,
        "worker_bytes": begin.memory,
    }
    rows.append(_row("train", "open: all tables, from nothing", figures, begin.assumed))
    orders = {
        "shuffled": order_of(given, 0),
        f"blocks of {block:,}": order_of(given, block),
        "order of the files": order_of(given, 0, shuffle=False),
    }
    names = (
        "at_once", "most_at_once", "latency", "bandwidth", "store_requests", "gap", "request_bytes",
        "ahead_bytes", "batch_size", "step_images_per_second",
    )  # fmt: skip
    ways = [*orders, f"blocks of {block:,} of the worker's own"]
    for way in ways:
        say(f"an epoch, {way}")
        order = orders.get(way)
        if order is None:
            samples = [own_samples(given, block, rank) for rank in range(given.workers)]
        else:
            samples = [*np.moveaxis(samples_of(order, 0), 1, 0)]
        cost = training(given, tables, samples, timed)
        figures = {
            "slowest_worker_seconds": cost.times.whole,
            "requests": cost.requests,
            "store_bytes": cost.num_bytes,
            "fetched_ratio": cost.num_bytes / cost.needed_bytes,
            "wait_share": (cost.times.first + cost.times.waiting) / cost.times.whole,
            "cache_bytes": cost.cache_bytes,
        }
        if order is not None:
            figures["kept_share"] = kept_share(order, 0, tables.sizes, cache_bytes)
        rows.append(_row("train", f"an epoch, {way}", figures, given.some(*names)))
    return rows
