"""`bench report`: results as a page and as the README's results section.

In: result files. Out: one self-contained HTML file (figures inside it, nothing fetched), and
Markdown between two markers of a README, made from committed results only: what git does not hold
unchanged is left out and named.
"""

from __future__ import annotations

import base64
import html
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from slipform.bench.result.plots import plots
from slipform.bench.result.result import Result, Row, read_result
from slipform.bench.result.tables import STAGES, cells, constants, markdown, stage_cells, table
from slipform.pipelines.errors import ConfigError, SlipformError

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
TITLES = {
    "loaders": "Loaders: ours and the peers, same images, same work, same output",
    "train": "Training: the step alone, the loader alone, end to end",
    "prep": "Preparing a dataset",
    "accuracy": "Seconds to accuracy",
    "tune": "Loader settings tried on this machine",
}
METHOD = (
    "Each figure is a median with its 95 % interval in brackets (order statistics; of fewer than"
    " six repeats the smallest and largest). Contestants run in processes of their own and take"
    " turns; a multiple is formed within each round."
)
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Slipform: measured</title>
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
<h1>Slipform: measured</h1>
<p class="method">{method}</p>
{sections}
</body>
</html>
"""


def read_results(paths: Sequence[Path]) -> list[tuple[Path, Result]]:
    """All files, sorted by suite and name, checked."""
    found = [(path, read_result(path)) for path in sorted(paths)]
    order = list(TITLES)
    return sorted(
        found, key=lambda pair: order.index(pair[1].rows[0].suite) if pair[1].rows else len(order)
    )


def by_suite(result: Result) -> list[list[Row]]:
    """The rows, one list for each suite."""
    groups: dict[str, list[Row]] = {}
    for row in result.rows:
        groups.setdefault(row.suite, []).append(row)
    return list(groups.values())


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


def page(results: Sequence[tuple[Path, Result]]) -> str:
    """The whole HTML file."""
    sections = []
    for path, result in results:
        for rows in by_suite(result):
            sections += [
                f"<h2>{html.escape(TITLES[rows[0].suite])}</h2>",
                f'<p class="stamp">{html.escape(stamp_text(result))}<br>',
                f"<code>{html.escape(result.command)}</code> ({html.escape(path.name)})</p>",
                f"<p>{html.escape(constants(rows))}</p>",
                _html_table(*cells(rows)),
            ]
            if stages := stage_cells(rows):
                sections += [f"<p>{html.escape(STAGES)}</p>", _html_table(*stages)]
            for _, svg, alt in plots(rows):
                data = base64.b64encode(svg.encode()).decode()
                sections.append(
                    f'<img src="data:image/svg+xml;base64,{data}" alt="{html.escape(alt)}">'
                )
    return _PAGE.format(method=html.escape(METHOD), sections="\n".join(sections))


def _html_table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in line) + "</tr>\n"
        for line in lines
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>"


def readme_section(results: Sequence[tuple[Path, Result]], figures: Path, readme: Path) -> str:
    """The Markdown of all results; their figures go to the folder `figures` and are shown by a path
    relative to the README."""
    parts = [METHOD]
    for path, result in results:
        for number, rows in enumerate(by_suite(result)):
            parts += [
                f"### {TITLES[rows[0].suite]}",
                f"{stamp_text(result)}. `{result.command}`",
                constants(rows) + ".",
                table(rows),
            ]
            if stages := stage_cells(rows):
                parts += [STAGES, markdown(*stages)]
            for name, svg, alt in plots(rows):
                file = figures / f"{path.stem}-{number}-{name}.svg"
                write_text(file, svg)
                parts.append(f"![{alt}]({os.path.relpath(file, readme.parent)})")
    return "\n\n".join(part for part in parts if part != ".")


def write_section(readme: Path, section: str) -> None:
    """Replace what stands between the two markers of `readme`. Raises ConfigError where they are
    missing."""
    text = readme.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ConfigError(
            f"{readme} needs the two lines {BEGIN} and {END}, once each and in this order: results"
            " are written between"
        )
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    write_text(readme, f"{before}{BEGIN}\n\n{section}\n\n{END}{after}")


def committed(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Those that git holds exactly as they are here, and the others."""
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


def write_text(path: Path, text: str) -> None:
    """Write whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
