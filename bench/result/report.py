"""`bench report`: results as one HTML page.

In: result files, and the layout of each suite. Out: one HTML file that loads nothing and runs no
script: the verdict, figures with the peers, tables, and how it was measured. The Markdown pages are
in slipform.bench.result.pages.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from slipform.bench.result.html_table import html_table
from slipform.bench.result.layout import Layout
from slipform.bench.result.measured import METHOD, command_text, facts, machine_text
from slipform.bench.result.panels import FIGURE, Drawing
from slipform.bench.result.quantities import contestant, is_ours
from slipform.bench.result.result import Result, Row, read_result
from slipform.bench.result.tables import STAGES, cells, constants, stage_cells
from slipform.bench.result.verdict import Verdict
from slipform.train.page.document import Section, document

__all__ = ["Layouts", "Results", "by_suite", "page", "read_results"]

Layouts = Mapping[str, Layout]
Results = Sequence[tuple[Path, Result]]
_Part = tuple[int, Layout, list[Row]]  # the number of a result, and its rows of one suite
_NUMBERS = 3
_FOOTER = """Made by <code>bench report</code>. The page is one file: it fetches nothing and runs no
script."""


def read_results(paths: Sequence[Path], layouts: Layouts) -> list[tuple[Path, Result]]:
    """Read and check result files.

    Args:
        paths: The files.
        layouts: The layouts of the suites, in the order of the report.

    Returns:
        (path, result), sorted by suite and name.

    Raises:
        DatasetError: A file is no result.
    """
    found = [(path, read_result(path)) for path in sorted(paths)]
    order = {name: number for number, name in enumerate(layouts)}

    def rank(pair: tuple[Path, Result]) -> int:
        rows = pair[1].rows
        return order.get(rows[0].suite, len(order)) if rows else len(order)

    return sorted(found, key=rank)


def by_suite(result: Result, layouts: Layouts) -> list[tuple[Layout, list[Row]]]:
    """Divide the rows of a result into suites.

    Args:
        result: The result.
        layouts: The layouts of the suites. An unknown suite gets a layout with all columns.

    Returns:
        (layout, rows) of each suite.
    """
    groups: dict[str, list[Row]] = {}
    for row in result.rows:
        groups.setdefault(row.suite, []).append(row)
    return [(layouts.get(name, Layout(name)), rows) for name, rows in groups.items()]


def page(results: Results, layouts: Layouts) -> str:
    """Make the HTML page.

    Args:
        results: The results, from `read_results`.
        layouts: The layouts of the suites.
    """
    suites: dict[str, list[_Part]] = {}
    for number, (_, result) in enumerate(results):
        for layout, rows in by_suite(result, layouts):
            suites.setdefault(layout.title, []).append((number, layout, rows))
    verdicts = [found for parts in suites.values() if (found := _verdict_of(parts))]
    headline = verdicts[0].sentence if verdicts else "What was measured."
    figures = "".join(_figures(title, parts, results) for title, parts in suites.items())
    tables = "".join(_tables(title, parts, results) for title, parts in suites.items())
    return document(
        name="Slipform: benchmark results",
        headline=_text(headline),
        header=_verdict(verdicts, results),
        sections=(
            Section("figures", "Figures", figures),
            Section("tables", "Tables", tables),
            Section("measured", "How it was measured", _measured(results, layouts)),
        ),
        footer=_FOOTER,
        style=FIGURE,
    )


def _verdict_of(parts: Sequence[_Part]) -> Verdict | None:
    good = [[row for row in rows if row.status == "ok"] for _, _, rows in parts]
    return parts[0][1].verdict([rows for rows in good if rows])


def _peers(rows: Sequence[Row]) -> set[str]:
    """The contestants of the suites that compare Slipform with others."""
    names: dict[str, set[str]] = {}
    for row in rows:
        name = str(row.case.get("loader", row.case.get("way", "")))
        names.setdefault(row.suite, set()).add(name.partition(" ")[0])
    compared = [found for found in names.values() if any(map(is_ours, found))]
    found = {name for names in compared for name in names if not is_ours(name)}
    return {contestant(name).removesuffix(" loader") for name in found}


def _verdict(verdicts: Sequence[Verdict], results: Results) -> str:
    """The part of the page below the headline."""
    peers = _peers([row for _, result in results for row in result.rows if row.status == "ok"])
    machines = list(dict.fromkeys(machine_text(result.environment) for _, result in results))
    beside = (
        f"Measured beside {', '.join(sorted(peers, key=str.lower))}: same images, same work. "
        if peers
        else ""
    )
    numbers = "".join(
        f"<div><dt>{_text(one.meaning)}</dt><dd>{_text(one.value)}</dd></div>\n"
        for one in verdicts[:_NUMBERS]
    )
    more = "".join(f"<li>{_text(one.sentence)}</li>\n" for one in verdicts[1:])
    return (
        f"<p>{escape(beside)}{escape('; '.join(machines))}.</p>\n"
        + (f'<dl class="numbers">\n{numbers}</dl>\n' if numbers else "")
        + (f"<ul>\n{more}</ul>\n" if more else "")
    )


def _figures(title: str, parts: Sequence[_Part], results: Results) -> str:
    """The figures of a suite, each with the panels of all runs."""
    about = f"<p>{_text(parts[0][1].about)}</p>\n" if parts[0][1].about else ""
    text = ""
    for place, figure in enumerate(parts[0][1].figures):
        panels, runs = [], []
        for number, layout, rows in parts:
            drawn = layout.drawn(rows)[place : place + 1]
            runs += [number] if drawn else []
            for _, found in drawn:
                panels += [_of_run(panel, number, len(parts)) for panel in found]
        if panels:
            text += (
                f"<figure><figcaption>{_text(figure.description)} {_stamp(runs, results)}"
                "</figcaption>\n"
                f'<div class="panels">\n{"".join(p.svg() for p in panels)}</div></figure>\n'
            )
    return f"<h3>{escape(title)}</h3>\n{about}{text}" if text else ""


def _of_run(panel: Drawing, number: int, runs: int) -> Drawing:
    """The panel, with the number of its run if the figure shows several runs."""
    return panel.with_unit(f"{panel.unit}, run {number + 1}") if runs > 1 else panel


def _tables(title: str, parts: Sequence[_Part], results: Results) -> str:
    text = f"<h3>{escape(title)}</h3>\n"
    for number, layout, rows in parts:
        text += f'<p class="stamp">{_stamp([number], results)}</p>\n'
        for common, members in layout.groups(rows):
            caption = (
                "; ".join(part for part in (common, constants(members, layout.group)) if part)
                or title
            )
            text += html_table(*cells(members, layout), caption)
        if stages := stage_cells(rows):
            text += html_table(*stages, STAGES)
    return text


def _stamp(numbers: Sequence[int], results: Results) -> str:
    """The machine and the date of runs, with a link to the facts about each run."""
    places: dict[str, list[str]] = {}
    for number in numbers:
        env = results[number][1].environment
        link = f'<a href="#run-{number + 1}">Run {number + 1}</a>'
        places.setdefault(f"{env.machine}, {env.date[:10]}", []).append(link)
    return " ".join(f"{', '.join(links)}: {escape(where)}." for where, links in places.items())


def _text(text: str) -> str:
    """A text as HTML. A number and its unit stay on one line."""
    return re.sub(r"(?<=\d) (?=[%×s]\b|[%×])", "&nbsp;", escape(text))


def _measured(results: Results, layouts: Layouts) -> str:
    text = f"<p>{_text(METHOD)}</p>\n"
    for number, (path, result) in enumerate(results):
        layout, rows = (by_suite(result, layouts) or [(Layout("no rows"), [])])[0]
        told = f"<dt>command</dt><dd><code>{escape(command_text(result))}</code></dd>\n"
        told += "".join(
            f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>\n"
            for name, value in facts(path, result, rows, layout)
        )
        text += (
            f'<h3 id="run-{number + 1}">Run {number + 1}: {escape(layout.title)}</h3>\n'
            f'<dl class="facts">\n{told}</dl>\n'
        )
    return text
