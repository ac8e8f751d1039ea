"""Rows as text: one table that reads well in a terminal and is Markdown.

In: rows of one suite. Out: lines. A figure is written as its median and, in brackets, its interval.
"""

from __future__ import annotations

from collections.abc import Sequence

from slipform.bench.result.result import Estimate, Row, Value

# The columns of each suite's table, in this order; what a file holds beyond them stays in the file.
FIGURES = {
    "loaders": [
        *(
            "images_per_second",
            "multiple_of_ffcv",
            "cpu_cores",
            "first_batch_seconds",
            "resident_bytes",
        ),
        *("above_imports_bytes", "device_used_bytes"),
    ],
    "train": [
        *(
            "step_images_per_second",
            "loader_images_per_second",
            "end_to_end_images_per_second",
            "end_to_end_ratio",
            "wait_share",
        ),
        *(
            "torch_images_per_second",
            "multiple_of_torch",
            "first_batch_seconds",
            "compile_seconds",
            "resident_bytes",
        ),
        *("allocated_bytes", "reserved_bytes", "device_used_bytes"),
    ],
    "prep": ["images_per_second", "multiple_of_ffcv", "cpu_cores", "resident_bytes"],
    "accuracy": [
        *(
            "accuracy",
            "seconds_to_target",
            "start_up_seconds",
            "test_seconds",
            "process_seconds",
            "data_wait_seconds",
        ),
    ],
    "tune": ["images_per_second", "gain_ratio", "cpu_cores"],
}
STAGES = (
    "The stages of our loaders: seconds of work on an image, threads added up; wait is the"
    " consumer's."
)
PER_IMAGE = "_seconds_per_image"
LABELS = {
    "images_per_second": "images/s",
    "step_images_per_second": "(a) step alone, images/s",
    "loader_images_per_second": "(b) loader alone, images/s",
    "end_to_end_images_per_second": "(c) end to end, images/s",
    "end_to_end_ratio": "c / a",
    "torch_images_per_second": "fed by torch DataLoader, images/s",
    "wait_share": "waiting for data",
    "gain_ratio": "multiple of the usual",
    "resident_bytes": "resident memory",
    "above_imports_bytes": "of it above imports",
    "device_used_bytes": "device memory used",
    "allocated_bytes": "allocated",
    "reserved_bytes": "reserved",
}


def label(name: str) -> str:
    """A figure's or a case's name as a heading."""
    return LABELS.get(name) or (
        name.removesuffix("_seconds") + ", s" if name.endswith("_seconds") else name
    ).replace("_", " ")


def number(name: str, value: float) -> str:
    """One value in the unit that its name says."""
    if name.endswith(PER_IMAGE):
        return f"{1e6 * value:.3g}"
    if name.endswith("_bytes"):
        return f"{value / 2**30:.2f} GiB" if value >= 2**30 else f"{value / 2**20:.0f} MiB"
    if name == "accuracy":
        return f"{100 * value:.2f} %"
    if name.endswith("_share"):
        return f"{100 * value:.1f} %"
    if name.endswith("images_per_second"):
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"


def figure_text(name: str, figure: Estimate | None) -> str:
    """ "2,451 (2,400 to 2,480)"; the median alone where it was measured once."""
    if figure is None:
        return ""
    if figure.repeats == 1:
        return number(name, figure.median)
    return (
        f"{number(name, figure.median)} ({number(name, figure.low)} to {number(name, figure.high)})"
    )


def case_text(value: Value) -> str:
    return (
        {True: "yes", False: "no", None: ""}[value]
        if value is None or isinstance(value, bool)
        else str(value)
    )


def settings_text(row: Row) -> str:
    return " ".join(f"{name}={case_text(value)}" for name, value in row.settings.items())


def markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns."""
    cells = [
        [cell.replace("|", "/").replace("\n", " ") for cell in line] for line in [header, *lines]
    ]
    widths = [max(3, *(len(line[i]) for line in cells)) for i in range(len(header))]

    def join(line: Sequence[str]) -> str:
        return (
            "| "
            + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            + " |"
        )

    return "\n".join(
        [
            join(cells[0]),
            "| " + " | ".join("-" * width for width in widths) + " |",
            *map(join, cells[1:]),
        ]
    )


def cells(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Header and lines for the rows of one suite: what was varied, the figures, the settings; a row
    without figures says why."""
    suite = rows[0].suite
    cases = [
        name
        for name in rows[0].case
        if len({str(row.case.get(name)) for row in rows}) > 1 or name in ("loader", "model")
    ]
    shown = [name for name in FIGURES[suite] if any(name in row.figures for row in rows)]
    lines = []
    for row in rows:
        figures = [figure_text(name, row.figures.get(name)) for name in shown]
        if row.status != "ok":
            figures = [row.status, *[""] * (len(shown) - 1)] if shown else []
        remark = settings_text(row) if row.status == "ok" else row.note
        lines.append([*(case_text(row.case.get(name)) for name in cases), *figures, remark])
    return [*map(label, cases), *map(label, shown), "settings"], lines


def table(rows: Sequence[Row]) -> str:
    """The rows of one suite as Markdown."""
    return markdown(*cells(rows))


def stage_cells(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]] | None:
    """How long each stage of our loaders works on an image (threads add up); None where nothing
    tells."""
    telling = [row for row in rows if any(name.endswith(PER_IMAGE) for name in row.figures)]
    if not telling:
        return None
    cases = [
        name
        for name in telling[0].case
        if len({str(row.case.get(name)) for row in telling}) > 1 or name == "loader"
    ]
    stages = list(
        dict.fromkeys(name for row in telling for name in row.figures if name.endswith(PER_IMAGE))
    )
    lines = [
        [
            *(case_text(row.case.get(name)) for name in cases),
            *(figure_text(name, row.figures.get(name)) for name in stages),
        ]
        for row in telling
    ]
    return [
        *map(label, cases),
        *(f"{label(name.removesuffix(PER_IMAGE))}, µs an image" for name in stages),
    ], lines


def constants(rows: Sequence[Row]) -> str:
    """What all rows have in common, as one line: "batch_size 128, image_size 224, dtype
    float32"."""
    same = [name for name in rows[0].case if len({str(row.case.get(name)) for row in rows}) == 1]
    return ", ".join(
        f"{label(name)} {case_text(rows[0].case[name])}"
        for name in same
        if name not in ("loader", "model") and rows[0].case[name] != ""
    )
