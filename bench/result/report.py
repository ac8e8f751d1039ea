"""`bench report`: results as one HTML page, and what its other pages are made of.

In: result files, and the layout of each suite. Out: one self-contained HTML file (figures inside
it, nothing fetched); which results git holds unchanged. The Markdown pages are made by
slipform.bench.result.pages.
"""

from __future__ import annotations

import base64
import html
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from slipform.bench.result.layout import Layout
from slipform.bench.result.result import Result, Row, read_result
from slipform.bench.result.tables import STAGES, cells, constants, stage_cells
from slipform.pipelines.errors import SlipformError

Layouts = Mapping[str, Layout]

METHOD = (
    "Each figure is a median with its 95 % interval in brackets (order statistics; of fewer than"
    " six repeats the smallest and largest). Contestants run in processes of their own and"
    " take turns; a multiple is formed within each round."
)
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Slipform: benchmark results</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #222;
        max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; font-size: 13px; display: block; overflow-x: auto; }}
th, td {{ padding: .25rem .6rem; border-bottom: 1px solid #ddd;
          text-align: left; vertical-align: top; }}
th {{ border-bottom: 2px solid #888; }}
td:nth-child(n+2) {{ font-variant-numeric: tabular-nums; }}
img {{ max-width: 100%; display: block; margin: 1rem 0; }}
.stamp, .method {{ color: #666; font-size: 13px; }}
code {{ background: #f3f1ec; padding: 0 .25rem; }}
</style>
</head>
<body>
<h1>Slipform: benchmark results</h1>
{findings}
<p class="method">{method}</p>
{sections}
</body>
</html>
"""


def read_results(paths: Sequence[Path], layouts: Layouts) -> list[tuple[Path, Result]]:
    """Read and check result files.

    Args:
        paths: The files.
        layouts: The suites, in the order of the report.

    Returns:
        Path and result, sorted by suite and name.

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
    """The rows of each suite with its layout; a suite that is not known any more shows all."""
    groups: dict[str, list[Row]] = {}
    for row in result.rows:
        groups.setdefault(row.suite, []).append(row)
    return [(layouts.get(name, Layout(name)), rows) for name, rows in groups.items()]


def stamp_text(result: Result) -> str:
    """Machine, versions, commit, date: one line."""
    env = result.environment
    versions = ", ".join(f"{name} {number}" for name, number in env.versions.items())
    memory = f"{env.memory_bytes / 2**30:.0f} GiB memory"
    gpu = f", {env.gpu} with driver {env.driver}" if env.gpu else ", no GPU"
    return (
        f"{env.cpu}, {env.cores} cores, {memory}{gpu}; Python {env.python}, {versions}; commit"
        f" {env.commit}, {env.date[:10]}"
    )


def page(results: Sequence[tuple[Path, Result]], layouts: Layouts) -> str:
    """The whole HTML file.

    Args:
        results: As `read_results` gives them.
        layouts: Of every suite.

    Returns:
        The page: what the results say, then a section for each of them.
    """
    sections, findings = [], list[str]()
    for path, result in results:
        for layout, rows in by_suite(result, layouts):
            findings += layout.findings([row for row in rows if row.status == "ok"])
            sections += [
                f"<h2>{html.escape(layout.title)}</h2>",
                f'<p class="stamp">{html.escape(stamp_text(result))}<br>',
                f"<code>{html.escape(result.command)}</code> ({html.escape(path.name)})</p>",
                f"<p>{html.escape(constants(rows))}</p>",
                _html_table(*cells(rows, layout)),
            ]
            if stages := stage_cells(rows):
                sections += [f"<p>{html.escape(STAGES)}</p>", _html_table(*stages)]
            for _, svg, description in layout.plots(rows):
                data = base64.b64encode(svg.encode()).decode()
                sections.append(
                    f'<img src="data:image/svg+xml;base64,{data}" alt="{html.escape(description)}">'
                )
    return _PAGE.format(
        method=html.escape(METHOD),
        findings="".join(["<ul>", *(f"<li>{html.escape(one)}</li>" for one in findings), "</ul>"])
        if findings
        else "",
        sections="\n".join(sections),
    )


def _html_table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in line) + "</tr>\n"
        for line in lines
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>"


def committed(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Divide files by whether git holds them exactly as they are here.

    Args:
        paths: Files.

    Returns:
        The committed ones, and the others.

    Raises:
        SlipformError: git is not installed.
    """
    inside: list[Path] = []
    outside: list[Path] = []
    for path in paths:
        known = _git(path, "ls-files", "--error-unmatch", path.name) and _git(
            path, "diff", "--quiet", "HEAD", "--", path.name
        )
        (inside if known else outside).append(path)
    return inside, outside


def _git(path: Path, *arguments: str) -> bool:
    try:
        return (
            subprocess.run(
                ["git", "-C", str(path.resolve().parent), *arguments],
                capture_output=True,
                check=False,
            ).returncode
            == 0
        )
    except FileNotFoundError:
        raise SlipformError(
            "git is not installed: which results are committed cannot be told. Install it."
        ) from None
