"""What the simulation of many workers assumes: each value is an option of `bench scale`.

In: values, or the defaults. Out: `Assumptions`, and the options for click. The help of an option
says where its default comes from. "Assumed" means that nobody measured it here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import click

from slipform.bench.result.quantities import quantity
from slipform.bench.result.result import Settings

__all__ = ["Assumptions", "assumption_options"]

_UNITS = {"latency": "latency_seconds", "gap": "gap_bytes"}  # of names without them
_Command = TypeVar("_Command", bound=Callable[..., Any])


def _is(default: float, words: str) -> Any:
    return field(default=default, metadata={"help": words})


@dataclass(frozen=True)
class Assumptions:
    """The dataset, the machines, the network and the object store.

    The metadata of a field has the words about it. Units are seconds, bytes and bytes per second.

    Attributes:
        samples, num_bytes, spread: The dataset.
        workers, shards, cores, name_letters, list_bytes: The machines that prepare it and train.
        stat_seconds, list_at_once, bookkeeping_seconds: The list of the source.
        source_seconds, source_bandwidth, core_bandwidth, hash_bandwidth: A shard.
        latency, bandwidth, at_once, most_at_once, store_requests: The object store.
        part_bytes, parts_at_once, small_objects: Uploads.
        table_reads, tables_at_once: The tables at the start of a training.
        gap, request_bytes, ahead_bytes: Requests for samples.
        batch_size, step_images_per_second: The training.
        window: The order of the samples.
    """

    samples: int = _is(14_197_122, "Images. ImageNet-21k: image-net.org, fall 2011 release.")
    num_bytes: float = _is(1.3e12, "Bytes of all images. ImageNet-21k: 1.3 TB.")
    spread: float = _is(
        0.6, "Sizes of images are log-normal: the deviation of their logarithm. Assumed."
    )
    workers: int = _is(64, "Machines that work at the same time.")
    shards: int = _is(64, "Shards of train.")
    cores: int = _is(8, "Cores of a worker, and threads of prep. Assumed.")
    name_letters: int = _is(30, "Letters of the name of an image: n01440764/n01440764_10026.JPEG.")
    list_bytes: int = _is(
        174,
        "Memory of a worker for each image of the list. Measured: 60,000 files in 300 folders, prep"
        " images, AMD EPYC, 2026-11-26.",
    )
    stat_seconds: float = _is(0.5e-3, "Seconds to ask for the size of a file. Assumed: NFS.")
    list_at_once: int = _is(32, "Threads that ask for sizes: preprocess/shard_list.py.")
    bookkeeping_seconds: float = _is(
        10e-6,
        "Processor seconds for each image of the list: path, label and split 6.4 µs, size 3.3, hash"
        " 0.6. Measured as --list-bytes, on a local disk.",
    )
    source_seconds: float = _is(2e-3, "Seconds until a file of the source answers. Assumed: NFS.")
    source_bandwidth: float = _is(
        1.25e9, "Bytes/s that a worker reads of the source. Assumed: 10 Gbit/s."
    )
    core_bandwidth: float = _is(
        74e6,
        "Bytes/s that a core checks and writes. From bench/results/epyc-zen4-2-cores-prep.json:"
        " 8,874 images/s on 1.69 cores; the mean image of Caltech-101 has 14.1 kB.",
    )
    hash_bandwidth: float = _is(1.5e9, "Bytes/s of SHA-256 on a core with SHA-NI. Assumed.")
    latency: float = _is(
        0.03, "Seconds until the object store answers a request. Assumed; AWS says 0.1 to 0.2."
    )
    bandwidth: float = _is(
        1.25e9, "Bytes/s between a worker and the object store. Assumed: 10 Gbit/s."
    )
    at_once: int = _is(32, "Requests for samples under way, at least: pipelines/mirror/ranges.py.")
    most_at_once: int = _is(128, "The most of them, if they are small: pipelines/mirror/ranges.py.")
    store_requests: float = _is(
        5500.0, "Reads/s of all workers together. S3: 5,500 for each prefix, which is one folder."
    )
    part_bytes: int = _is(8 << 20, "Bytes of a part of an upload: pipelines/remote/store.py.")
    parts_at_once: int = _is(4, "Parts at the same time: pipelines/remote/store.py.")
    small_objects: int = _is(3, "Objects beside the beton of a shard: checksums, names, record.")
    table_reads: int = _is(2, "How often a table is read: pipelines/remote/agreed.py.")
    tables_at_once: int = _is(16, "Tables at the same time: pipelines/mirror/index.py.")
    gap: int = _is(
        64 << 10, "Bytes between two samples of one request, at most: pipelines/mirror/ranges.py."
    )
    request_bytes: int = _is(
        1 << 20, "Bytes of a request for several samples, at most: pipelines/mirror/ranges.py."
    )
    ahead_bytes: float = _is(
        float(1 << 29),
        "Bytes of the batches whose requests are joined; twice as much is held in the cache:"
        " pipelines/read_ahead.py.",
    )
    batch_size: int = _is(256, "Images in a batch of a worker.")
    step_images_per_second: float = _is(
        2500.0, "Images/s of the training step alone on a worker. Assumed: ResNet-50, one H100."
    )
    window: int = _is(16, "Blocks that are shuffled together: pipelines/order.py.")

    def some(self, *names: str) -> Settings:
        """Some of the values with their units, for the settings of a row.

        Args:
            names: Attributes.
        """
        return {name: _text(name, getattr(self, name)) for name in names}


def _text(name: str, value: float) -> str:
    """A value with its unit."""
    name = _UNITS.get(name, name)
    if name.endswith("bandwidth"):
        return f"{value / 1e6:,.0f} MB/s"
    if isinstance(value, int) and not name.endswith("_bytes"):
        return f"{value:,}"
    return quantity(name).number(value)


def assumption_options(command: _Command) -> _Command:
    """Add an option for each assumption to a click command.

    Args:
        command: The function of the command.
    """
    for one in reversed(fields(Assumptions)):
        whole = isinstance(one.default, int)
        kind = click.IntRange(1) if whole else click.FloatRange(0, min_open=True)
        decorate = click.option(
            f"--{one.name.replace('_', '-')}",
            type=kind,
            default=one.default,
            show_default=True,
            help=one.metadata["help"],
        )
        command = decorate(command)
    return command
