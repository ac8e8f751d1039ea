"""The figures of the report: rows of a suite as panels of bars.

In: all rows of a suite, also those without figures. Out: panels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from slipform.bench.result.panels import Bar, Panel
from slipform.bench.result.quantities import contestant, is_ours, quantity
from slipform.bench.result.result import Row

__all__ = [
    "loader_bars",
    "memory_bars",
    "remote_bars",
    "train_bars",
    "wait_bars",
    "writer_bars",
]

_MEMORY = ("device_used_bytes", "reserved_bytes", "allocated_bytes", "resident_bytes")
_RATE = "images_per_second"


def loader_bars(rows: Sequence[Row]) -> list[Panel]:
    """Images per second of every loader; one panel for each kind of work.

    Args:
        rows: The rows of the suite "loaders".
    """
    found = []
    for data, kind, jittered in dict.fromkeys(
        (row.case["data"], row.case["input"], row.case["color_jitter"]) for row in rows
    ):
        race = [
            row
            for row in rows
            if (row.case["data"], row.case["input"], row.case["color_jitter"])
            == (data, kind, jittered)
        ]
        title = f"{data}, {kind}{', color jitter' if jittered else ''}"
        found.append(Panel(title, "images/s", _RATE, tuple(_contestants(race, "loader"))))
    return found


def remote_bars(rows: Sequence[Row]) -> list[Panel]:
    """Images per second of every reader; one panel for each latency and state of the cache.

    Args:
        rows: The rows of the suite "remote".
    """
    found: dict[str, list[Row]] = {}
    for row in rows:
        case = row.case
        title = f"{case['data']}, {case['latency']}, {case['cache']} cache"
        found.setdefault(title, []).append(row)
    return [
        Panel(title, "images/s", _RATE, tuple(_contestants(race, "loader")))
        for title, race in found.items()
    ]


def writer_bars(rows: Sequence[Row]) -> list[Panel]:
    """Images per second of every way to write a dataset; one panel for each dataset.

    Args:
        rows: The rows of the suite "prep".
    """
    return [
        Panel(
            str(data),
            "images/s",
            _RATE,
            tuple(_contestants([row for row in rows if row.case["data"] == data], "way")),
        )
        for data in dict.fromkeys(row.case["data"] for row in rows)
    ]


def train_bars(rows: Sequence[Row]) -> list[Panel]:
    """Images per second end to end, with Slipform's loader and with a torch DataLoader.

    There is one panel for each net. The mark is the step alone.

    Args:
        rows: The rows of the suite "train".
    """
    return [
        Panel(f"{data}, {series}", "images/s", _RATE, tuple(_fed_bars(shown)))
        for (data, series), shown in _by_series(rows).items()
    ]


def wait_bars(rows: Sequence[Row]) -> list[Panel]:
    """The share of training time spent waiting for data, at the worst batch size of each net.

    Args:
        rows: The rows of the suite "train".
    """
    bars = []
    for (_, series), shown in _by_series(rows).items():
        good = [row for row in shown if row.status == "ok" and "wait_share" in row.figures]
        if not good:
            continue
        row = max(good, key=lambda one: one.figures["wait_share"].median)
        name = f"{series}, batch {row.case['batch_size']}"
        bars.append(Bar(name, row.figures["wait_share"], ours=True))
        if "torch_wait_share" in row.figures:
            theirs = Bar(f"{name}, torch DataLoader", row.figures["torch_wait_share"], ours=False)
            bars.append(theirs)
    data = ", ".join(dict.fromkeys(str(row.case["data"]) for row in rows))
    return [Panel(f"{data}, longest waits", "of training time", "wait_share", tuple(bars))]


def memory_bars(rows: Sequence[Row]) -> list[Panel]:
    """The peak memory of each net at each batch size.

    Args:
        rows: The rows of the suite "train".
    """
    figure = next(
        (name for name in _MEMORY if any(name in row.figures for row in rows)), "resident_bytes"
    )
    bars = tuple(
        Bar(f"{_series(row)}, batch {row.case['batch_size']}", row.figures.get(figure), True, why)
        for row in rows
        if (why := "" if row.status == "ok" else row.status) or figure in row.figures
    )
    data = ", ".join(dict.fromkeys(str(row.case["data"]) for row in rows))
    return [Panel(f"{data}, peak memory", quantity(figure).heading, figure, bars)]


def _contestants(rows: Sequence[Row], who: str) -> Iterator[Bar]:
    """The bars of contestants: the fastest first, those that could not take part last."""

    def speed(row: Row) -> float:
        return row.figures[_RATE].median if _RATE in row.figures else -1.0

    for row in sorted(rows, key=speed, reverse=True):
        name, why = str(row.case[who]), "" if row.status == "ok" else row.status
        yield Bar(contestant(name), row.figures.get(_RATE), is_ours(name), why)


def _fed_bars(rows: Sequence[Row]) -> Iterator[Bar]:
    """The bars of each batch size: Slipform's loader, then the torch DataLoader."""
    for row in sorted(rows, key=lambda one: int(str(one.case["batch_size"]))):
        name, figures = f"batch {row.case['batch_size']}", row.figures
        if row.status != "ok":
            yield Bar(name, None, ours=True, note=row.status)
            continue
        alone = figures["step_images_per_second"].median
        yield Bar(name, figures["end_to_end_images_per_second"], ours=True, mark=alone)
        if "torch_images_per_second" in figures:
            theirs = figures["torch_images_per_second"]
            yield Bar(f"{name}, torch DataLoader", theirs, ours=False, mark=alone)


def _by_series(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    """(dataset, net with its precision and compile mode) -> its rows."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((str(row.case["data"]), _series(row)), []).append(row)
    return found


def _series(row: Row) -> str:
    return " ".join(
        str(row.case[name])
        for name in ("model", "precision", "compile")
        if row.case[name] != "auto"
    )
