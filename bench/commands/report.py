"""Make a page of results, and the results section of the README."""

from __future__ import annotations

from pathlib import Path

import click

from slipform.pipelines.errors import Command, SlipformError

RESULTS = Path(__file__).resolve().parents[1] / "results"


@click.command(cls=Command)
@click.argument("results", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("runs/bench/report.html"),
    show_default=True,
    help="The page.",
)
@click.option(
    "--readme",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Write its results section as well.",
)
def command(results: tuple[Path, ...], out: Path, readme: Path | None) -> None:
    """Make a self-contained page of the RESULTS (all of bench/results by default), and the README's
    results section.

    The README is written from committed results only, their figures to bench/results/figures.

    \b
    Example: bench report --readme README.md
    """
    from slipform.bench.result import report as reporting
    from slipform.bench.suites import layouts
    from slipform.pipelines.files import write_whole

    paths = list(results) or sorted(RESULTS.glob("*.json"))
    if not paths:
        raise SlipformError(
            f"{RESULTS} holds no results yet: run a suite with --out {RESULTS}/MACHINE-SUITE.json"
        )
    known = layouts()
    text = reporting.page(reporting.read_results(paths, known), known)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, text)
    click.echo(f"written to {out}")
    if readme is not None:
        inside, outside = reporting.committed(paths)
        for path in outside:
            click.echo(f"left out of {readme}, not committed as it is here: {path}", err=True)
        if not inside:
            raise SlipformError(
                f"none of these results is committed, so {readme} was left as it is: commit them"
                " first"
            )
        section = reporting.readme_section(
            reporting.read_results(inside, known), RESULTS / "figures", readme, known
        )
        reporting.write_section(readme, section)
        click.echo(f"written to {readme}")
