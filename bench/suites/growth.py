"""Measure how time and memory grow with the number of samples: prep, order, loaders.

In: numbers of samples. Out: a row for each number and each part of the work. The datasets are
generated: raw images of 8 px, so that the time per sample is that of the bookkeeping, not of
pixels. Every row is measured in its own process. Its memory is the peak above that of the imports.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from slipform.bench.options import numbers, out_option
from slipform.bench.result.layout import Figure, Layout
from slipform.bench.result.panels import Bar, Panel
from slipform.bench.result.quantities import digits
from slipform.bench.result.result import Row, Settings
from slipform.bench.result.verdict import Verdict
from slipform.bench.suites import finish, say
from slipform.pipelines.command import Command
from slipform.pipelines.errors import SlipformError

__all__ = ["LAYOUT", "command", "verdict"]

_BLOCK = 256  # samples; 16 blocks are shuffled together, and their pixels take 0.8 MB


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
    ends = [pair for rows in results for pair in _ends(rows)]
    order = [pair for pair in ends if pair[0].case["way"] == "order"]
    others = [pair for pair in ends if not str(pair[0].case["way"]).startswith("order")]
    longer, larger = (_growths(others, name) for name in ("sample_seconds", "sample_bytes"))
    if not longer or not larger:
        return None
    between, time, memory = _between(others), digits(max(longer)), digits(max(larger))
    text = (
        f"From {between}, prep and loaders take at most {time} times as much time per"
        f" sample, and at most {memory} times as much memory."
    )
    if order:
        text += (
            f" From {_between(order)}, the order of an epoch takes"
            f" {digits(max(_growths(order, 'sample_seconds')))} times as much time per sample."
        )
    return Verdict(
        text,
        f"{memory} ×",
        f"as much memory per sample, at most, from {between}; time: {time} ×",
    )


def _way(part: str, block: int) -> str:
    return f"{part}, blocks of {block}" if block else part


_Ends = tuple[Row, Row]  # of the smallest and of the largest number of samples


def _ends(rows: Sequence[Row]) -> list[_Ends]:
    """The ends of each part that one result has with several numbers of samples."""
    ways: dict[str, list[Row]] = {}
    for row in sorted(rows, key=_samples):
        ways.setdefault(str(row.case["way"]), []).append(row)
    return [(own[0], own[-1]) for own in ways.values() if len(own) > 1]


def _growths(ends: Sequence[_Ends], figure: str) -> list[float]:
    """The growth of a figure in each part.

    A part is left out if few samples do not take more memory than the imports.
    """
    pairs = [[row.figures[figure].median for row in pair] for pair in ends]
    return [many / few for few, many in pairs if few > 0]


def _between(ends: Sequence[_Ends]) -> str:
    few, many = min(_samples(first) for first, _ in ends), max(_samples(last) for _, last in ends)
    return f"{digits(few)} to {digits(many)} samples"


def _samples(row: Row) -> float:
    return float(str(row.case["samples"]))


LAYOUT = Layout(
    title="Growth with the number of samples",
    about="A part grows in proportion to the data if its time and memory per sample are constant."
    " Constant parts, such as threads and buffers, weigh less with more samples. Time per sample"
    " can grow. Order and loaders are also measured in blocks of samples that are near each other"
    " in memory. What then grows less grew because of random access, which takes longer once the"
    " data are larger than the caches of the processor. The images are generated, raw, 8 px. The"
    " first epoch also compares checksums. Memory is the peak of a process above its imports.",
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
    from slipform.bench.race import growing
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

    orders, counts = numbers(order_samples, "--order-samples"), numbers(samples, "--samples")

    def found() -> Iterator[Row]:
        for count in orders:
            for block in (0, _BLOCK):
                yield row(_way("order", block), count, growing.measure_order, count, block)
        with tempfile.TemporaryDirectory(prefix="slipform-growth-") as folder:
            for count in counts:
                data = f"{folder}/{count}"
                yield row("prep", count, growing.measure_prep, data, count)
                for executor in ("host", "resident"):
                    for block in (0, _BLOCK):
                        way = _way(executor, block)
                        yield row(way, count, growing.measure_loader, data, executor, block)

    rows = finish("growth", found(), out, stamp())
    if all(row.status != "ok" for row in rows):
        raise SlipformError("nothing could be measured")
