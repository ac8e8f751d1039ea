"""Measure how time and memory grow with the number of samples: prep, order, loaders.

In: numbers of samples. Out: a row for each number and each part of the work. The datasets are
generated: raw images of 8 px, so that the time per sample is that of the bookkeeping, not of
pixels. Every row is measured in its own process. Its memory is the peak above that of the imports.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from slipform.bench.options import numbers, out_option
from slipform.bench.result.layout import Figure, Layout
from slipform.bench.result.panels import Bar, Panel
from slipform.bench.result.quantities import digits
from slipform.bench.result.result import Estimate, Row, Settings
from slipform.bench.result.verdict import Verdict
from slipform.bench.suites import finish, say
from slipform.pipelines.errors import Command, SlipformError

__all__ = [
    "LAYOUT",
    "command",
    "generate",
    "measure_loader",
    "measure_order",
    "measure_prep",
    "verdict",
]

_SIDE = 8  # pixels
_ROUNDS = 7
_BATCH_SIZE = 512
_BATCHES = 20  # in a round


def _bars(rows: Sequence[Row]) -> list[Panel]:
    """A panel of time and one of memory for each part; one bar for each number of samples."""
    panels = []
    for way in dict.fromkeys(str(row.case["way"]) for row in rows):
        own = [row for row in rows if row.case["way"] == way]
        for figure, title in (
            ("sample_seconds", "time per sample"),
            ("sample_bytes", "memory per sample"),
        ):
            bars = tuple(
                Bar(
                    f"{digits(_samples(row))} samples",
                    row.figures.get(figure),
                    True,
                )
                for row in own
            )
            panels.append(Panel(f"{way}, {title}", "", figure, bars))
    return panels


def verdict(results: Sequence[Sequence[Row]]) -> Verdict | None:
    """How time and memory per sample change between the smallest and the largest dataset.

    Args:
        results: The rows with figures of each result.
    """
    ways: dict[str, list[Row]] = {}
    for row in (row for rows in results for row in rows if row.case["way"] != "order"):
        ways.setdefault(str(row.case["way"]), []).append(row)
    ends = [
        (ordered[0], ordered[-1])
        for rows in ways.values()
        if len(ordered := sorted(rows, key=_samples)) > 1
    ]
    if not ends:
        return None
    longer, larger = (
        max(last.figures[name].median / first.figures[name].median for first, last in ends)
        for name in ("sample_seconds", "sample_bytes")
    )
    few, many = min(_samples(first) for first, _ in ends), max(_samples(last) for _, last in ends)
    between = f"{digits(few)} to {digits(many)} samples"
    return Verdict(
        f"From {between}, prep and loaders take at most {digits(longer)} times as much time per"
        f" sample, and at most {digits(larger)} times as much memory.",
        f"{digits(larger)} ×",
        f"as much memory per sample, at most, from {between}; time: {digits(longer)} ×",
    )


def _samples(row: Row) -> float:
    return float(str(row.case["samples"]))


LAYOUT = Layout(
    title="Growth with the number of samples",
    about="A part grows in proportion to the data if its time and memory per sample are constant."
    " Constant parts, such as threads and buffers, weigh less with more samples. A random access"
    " takes longer once the data are larger than the caches of the processor. The images are"
    f" generated, raw, {_SIDE} px. The first epoch also compares checksums. Memory is the peak of a"
    " process above its imports.",
    rank=7,
    columns=(
        "sample_seconds",
        "first_epoch_sample_seconds",
        "start_up_seconds",
        "above_imports_bytes",
        "sample_bytes",
    ),
    figures=(Figure("growth", _bars, "Time and memory per sample, for each number of samples."),),
    verdict=verdict,
)


@click.command(cls=Command)
@click.option(
    "--samples",
    default="10000,100000,1300000",
    show_default=True,
    help="Numbers of samples for prep and the loaders.",
)
@click.option(
    "--order-samples",
    default="10000,100000,1300000,10000000,100000000",
    show_default=True,
    help="Numbers of samples for the order of an epoch.",
)
@out_option
def command(samples: str, order_samples: str, out: Path | None) -> None:
    """Measure how time and memory grow with the number of samples.

    The datasets are generated in the temporary folder: 0.3 GB for 1.3 million samples.

    \b
    Example: bench growth --samples 10000,100000
    """
    from slipform.bench.race.worker import CallFailed, isolated
    from slipform.bench.result.environment import stamp

    def row(way: str, count: int, function: Callable[..., Any], *arguments: Any) -> Row:
        case: Settings = {"way": way, "samples": count}
        say(f"{way}, {count:,} samples")
        try:
            return Row(suite="growth", case=case, figures=isolated(function, *arguments))
        except CallFailed as failure:
            say(f"  {failure.status}: {failure.note}")
            return Row(suite="growth", case=case, status=failure.status, note=failure.note)

    def found() -> Iterator[Row]:
        for count in numbers(order_samples, "--order-samples"):
            yield row("order", count, measure_order, count)
        with tempfile.TemporaryDirectory(prefix="slipform-growth-") as folder:
            for count in numbers(samples, "--samples"):
                data = f"{folder}/{count}"
                yield row("prep", count, measure_prep, data, count)
                for executor in ("host", "resident"):
                    yield row(executor, count, measure_loader, data, executor)

    rows = finish("growth", found(), out, stamp())
    if all(row.status != "ok" for row in rows):
        raise SlipformError("nothing could be measured")


def _memory(before: int, count: int, data_bytes: int = 0) -> dict[str, Estimate]:
    """The peak of this process above `before`, without generated data that the caller holds."""
    from slipform.bench.race.measure import estimate
    from slipform.pipelines.machine import peak_resident_bytes

    grown = float(max(0, peak_resident_bytes() - before - data_bytes))
    return {"above_imports_bytes": estimate([grown]), "sample_bytes": estimate([grown / count])}


def measure_order(count: int) -> dict[str, Estimate]:
    """Measure the order of an epoch, in this process.

    Args:
        count: The number of samples.

    Returns:
        sample_seconds and memory.
    """
    from slipform.bench.race.measure import estimate
    from slipform.pipelines.machine import reset_peak, resident_now
    from slipform.pipelines.order import EpochOrder

    EpochOrder(1000, 1).samples(0)  # loads the kernel
    reset_peak("cpu")
    order, before, seconds = EpochOrder(count, 1), resident_now(), []
    for epoch in range(_ROUNDS if count <= 10**7 else 3):
        began = time.perf_counter()
        order.samples(epoch)
        seconds.append((time.perf_counter() - began) / count)
    return {"sample_seconds": estimate(seconds), **_memory(before, count)}


def generate(count: int) -> tuple[object, int]:
    """Make raw images of 8 px with ten classes.

    Args:
        count: The number of samples of train; test has one.

    Returns:
        The SampleSource, and the bytes of its pixels.
    """
    import numpy as np

    from slipform.preprocess.source import Arrays, SampleSource

    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (count, _SIDE, _SIDE, 3), np.uint8)
    labels = np.arange(count, dtype=np.int64) % 10
    splits = {
        "train": Arrays(pixels, labels, "train"),
        "test": Arrays(pixels[:1], labels[:1], "test"),
    }
    source = SampleSource(
        dataset="growth",
        classes=tuple(str(number) for number in range(10)),
        splits=splits,
        split_rule="generated",
        options={},
    )
    return source, pixels.nbytes + labels.nbytes


def measure_prep(folder: str, count: int) -> dict[str, Estimate]:
    """Write a dataset of generated images, in this process.

    Args:
        folder: The dataset folder to write.
        count: The number of samples.

    Returns:
        sample_seconds and memory.
    """
    from slipform.bench.race.measure import estimate
    from slipform.pipelines.machine import reset_peak, resident_now
    from slipform.preprocess.build import build_dataset
    from slipform.preprocess.encode import Encoding

    reset_peak("cpu")
    before = resident_now()
    source, num_bytes = generate(count)
    began = time.perf_counter()
    build_dataset(source, Path(folder), encoding=Encoding(mode="raw"))  # type: ignore[arg-type]
    seconds = (time.perf_counter() - began) / count
    return {"sample_seconds": estimate([seconds]), **_memory(before, count, num_bytes)}


def measure_loader(folder: str, executor: str) -> dict[str, Estimate]:
    """Measure a loader, in this process.

    Args:
        folder: The dataset folder.
        executor: The name of the executor.

    Returns:
        start_up_seconds (from nothing to the first batch), first_epoch_sample_seconds,
        sample_seconds (of later epochs), and memory.
    """
    from slipform.bench.race.measure import estimate
    from slipform.pipelines.loader import Loader
    from slipform.pipelines.machine import reset_peak, resident_now
    from slipform.pipelines.plan.augmentation import Augmentation

    spec = Augmentation(image_size=_SIDE, crop="random", padding=1, resize=_SIDE)
    with Loader(folder, "test", spec, batch_size=1, training=False) as small:
        next(iter(small))  # loads the kernels
    reset_peak("cpu")
    before, began, seconds = resident_now(), time.perf_counter(), []
    with Loader(
        folder, "train", spec, batch_size=_BATCH_SIZE, executor=executor, reuse_buffers=True
    ) as loader:
        loop = iter(loader)
        next(loop)
        start_up, began = time.perf_counter() - began, time.perf_counter()
        rest = sum(len(batch) for batch in loop)
        first_epoch, loop = (time.perf_counter() - began) / max(1, rest), iter(loader)
        for _ in range(_ROUNDS):
            began, left = time.perf_counter(), _BATCHES
            while left:
                for _ in loop:
                    left -= 1
                    if not left:
                        break
                else:
                    loop = iter(loader)
            seconds.append((time.perf_counter() - began) / (_BATCHES * _BATCH_SIZE))
        return {
            "start_up_seconds": estimate([start_up]),
            "first_epoch_sample_seconds": estimate([first_epoch]),
            "sample_seconds": estimate(seconds),
            **_memory(before, loader.num_samples),
        }
