"""The Markdown pages of `bench report`: bench/results/README.md and the speed table of README.md.

In: results, and the layout of each suite. Out: Markdown, and the SVG files in it. The same results
give the same bytes.
"""

from __future__ import annotations

import os
from pathlib import Path

from slipform.bench.result.layout import Layout
from slipform.bench.result.measured import METHOD, command_text, stamp_text
from slipform.bench.result.panels import whole_file
from slipform.bench.result.plots import loader_bars
from slipform.bench.result.quantities import quantity
from slipform.bench.result.report import Layouts, Results, by_suite
from slipform.bench.result.result import Result, Row
from slipform.bench.result.tables import STAGES, constants, markdown, stage_cells, table
from slipform.pipelines.errors import ConfigError
from slipform.pipelines.files import write_whole
from slipform.pipelines.number_text import number_of

__all__ = ["BEGIN", "END", "results_page", "speed_section", "write_section"]

BEGIN, END = "<!-- speed:begin -->", "<!-- speed:end -->"
_TITLE = """# Results

`bench report --readme README.md` writes this page from the JSON files in this folder.
[bench](../README.md) describes the measurements. [experiments](experiments/README.md) compares
reported accuracies with measured ones."""
# The lines and columns of the speed table. A line shows the first of its loaders that was measured.
_LOADERS = {
    "**Slipform**": ("slipform host", "slipform resident"),
    "ffcv": ("ffcv_loader",),
    "DALI reader": ("dali_reader",),
    "TurboLoader": ("turbo_loader",),
    "torch DataLoader": ("torch_dataloader",),
}
_RACES = {
    "Caltech-101, streaming": ("caltech101", "streaming"),
    "Caltech-101, resident": ("caltech101", "resident"),
    "CIFAR-10": ("cifar10", "small"),
}


def results_page(results: Results, page: Path, layouts: Layouts) -> str:
    """Make the page with all tables, and write its figures.

    Args:
        results: The results, from `read_results`.
        page: The path of the page. Figures are written to the folder `figures` next to it.
        layouts: The layout of every suite.

    Returns:
        The page as Markdown.
    """
    parts = [_TITLE, METHOD]
    for path, result in results:
        for number, (layout, rows) in enumerate(by_suite(result, layouts)):
            parts += [
                f"## {layout.title}",
                f"{stamp_text(result)}. `{command_text(result)}`",
                _sentence(layout, rows),
                layout.about,
                constants(rows) + ".",
                table(rows, layout),
            ]
            if stages := stage_cells(rows):
                parts += [STAGES, markdown(*stages)]
            for name, svg, description in layout.plots(rows):
                file = _figures(page) / f"{path.stem}-{number}-{name}.svg"
                parts.append(_image(file, svg, description, page))
    return "\n\n".join(part for part in parts if part not in ("", ".")) + "\n"


def _sentence(layout: Layout, rows: list[Row]) -> str:
    """The rows in one sentence; "" if the suite has none, or no row has figures."""
    good = [row for row in rows if row.status == "ok"]
    verdict = layout.verdict([good]) if good else None
    return "" if verdict is None else verdict.sentence


def speed_section(results: Results, page: Path, readme: Path) -> str:
    """Make the speed table of README.md: loaders without color jitter, on one machine.

    Args:
        results: The results, from `read_results`. The table shows the first one with most cells.
        page: The page with all results. The figure is written to the folder `figures` next to it.
        readme: The path of the README.

    Returns:
        The section as Markdown, without the markers.

    Raises:
        ConfigError: No result has a row for the table.
    """
    filled = [(sum(map(bool, _rates(result).values())), result) for _, result in results]
    most = max((number for number, _ in filled), default=0)
    if not most:
        raise ConfigError(
            f"none of these results fits the section Speed of {readme}: give one of `bench loaders"
            " data/caltech101 data/cifar10`"
        )
    result = next(result for number, result in filled if number == most)
    rates, env = _rates(result), result.environment
    bars = loader_bars([row for row in result.rows if row.status == "ok" and _is_plain(row)])
    header = ["images/s", *_RACES]
    lines = [[name, *(rates[name, race] for race in _RACES)] for name in _LOADERS]
    description = "Images per second of each loader, without color jitter."
    return "\n\n".join(
        [
            markdown(header, lines),
            _image(
                _figures(page) / "speed.svg",
                whole_file(bars, "Images per second of each loader"),
                description,
                readme,
            ),
            "Crop, flip, normalize to float32; medians. streaming: JPEGs are decoded in every"
            " epoch. resident: raw pixels, shorter side 256."
            f" {env.cpu}, {number_of(env.cores, 'core')}, no GPU used; slipform"
            f" {env.versions.get('slipform', 'of unknown version')}, {env.date[:10]};"
            f" `{command_text(result)}`",
        ]
    )


def write_section(readme: Path, section: str) -> None:
    """Replace the text between the two markers of a file.

    Args:
        readme: The file.
        section: The new text.

    Raises:
        ConfigError: The file does not have each marker once, in this order.
    """
    text = readme.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ConfigError(
            f"{readme} needs the two lines {BEGIN} and {END}, once each and in this order: the"
            " speed table is written between them"
        )
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    write_whole(readme, f"{before}{BEGIN}\n{section}\n{END}{after}")


def _rates(result: Result) -> dict[tuple[str, str], str]:
    """(line, column) -> cell of the speed table; "" if it was not measured."""
    figure, found = "images_per_second", {}
    for name, loaders in _LOADERS.items():
        for column, race in _RACES.items():
            found[name, column] = next(
                (
                    quantity(figure).number(row.figures[figure].median)
                    for loader in loaders
                    for row in result.rows
                    if row.status == "ok"
                    and _is_plain(row)
                    and (row.case["data"], row.case["input"]) == race
                    and row.case["loader"] == loader
                ),
                "",
            )
    return found


def _is_plain(row: Row) -> bool:
    return row.suite == "loaders" and not row.case["color_jitter"]


def _figures(page: Path) -> Path:
    return page.parent / "figures"


def _image(file: Path, svg: str, description: str, page: Path) -> str:
    """Write a figure, and return the Markdown that shows it in `page`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, svg)
    return f"![{description}]({os.path.relpath(file, page.parent)})"
