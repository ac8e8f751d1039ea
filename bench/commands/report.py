"""Write the pages of results: HTML, bench/results/README.md, the speed table of README.md."""

from __future__ import annotations

from pathlib import Path

import click

from slipform.pipelines.command import Command
from slipform.pipelines.errors import SlipformError

__all__ = ["RESULTS", "command"]

RESULTS = Path(__file__).resolve().parents[1] / "results"


@click.command(cls=Command)
@click.argument("results", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("runs/bench/report.html"),
    show_default=True,
    help="The HTML file to write.",
)
@click.option(
    "--readme",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Also write the speed table of this file, and bench/results/README.md.",
)
def command(results: tuple[Path, ...], out: Path, readme: Path | None) -> None:
    """Write a self-contained HTML page of RESULTS (default: all of bench/results).

    With --readme, also write bench/results/README.md with all tables, and the speed table of the
    README. These two contain committed results only.

    \b
    Example: bench report --readme README.md
    """
    from slipform.bench.result import pages
    from slipform.bench.result import report as reporting
    from slipform.bench.result.measured import committed
    from slipform.bench.suites import layouts
    from slipform.pipelines.files import write_whole

    paths = list(results) or sorted(RESULTS.glob("*.json"))
    if not paths:
        raise SlipformError(
            f"{RESULTS} has no results yet: run a suite with --out {RESULTS}/MACHINE-SUITE.json"
        )
    known = layouts()
    text = reporting.page(reporting.read_results(paths, known), known)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, text)
    click.echo(f"written to {out}")
    if readme is not None:
        inside, outside = committed(paths)
        for path in outside:
            click.echo(f"left out of {readme}, not committed in this version: {path}", err=True)
        if not inside:
            raise SlipformError(
                f"none of these results is committed, so {readme} was not changed: commit them"
                " first"
            )
        found, whole = reporting.read_results(inside, known), RESULTS / "README.md"
        pages.write_section(readme, pages.speed_section(found, whole, readme))
        write_whole(whole, pages.results_page(found, whole, known))
        click.echo(f"written to {readme} and {whole}")
