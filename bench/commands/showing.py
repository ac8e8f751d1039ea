"""The commands that show results. In: result files. Out: a comparison, a page, the README's
section."""

from __future__ import annotations

from pathlib import Path

import click

from slipform.pipelines.errors import Command, SlipformError

RESULTS = Path(__file__).resolve().parents[1] / "results"


@click.command(cls=Command)
@click.argument("before", metavar="A", type=click.Path(path_type=Path))
@click.argument("after", metavar="B", type=click.Path(path_type=Path))
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Share that is forgiven beyond the interval.",
)
@click.option(
    "--all", "everything", is_flag=True, help="Show also what stayed within its interval."
)
def compare(before: Path, after: Path, tolerance: float, everything: bool) -> None:
    """Compare the results A and B; exit 1 where B got worse than the spread of the two allows.

    \b
    Example: bench compare bench/results/laptop-loaders.json new.json
    """
    from slipform.bench.result import compare as comparing
    from slipform.bench.result.result import read_result

    a, b = read_result(before), read_result(after)
    found = comparing.changes(a, b, tolerance)
    gone = comparing.lost(a, b)
    worse = [change for change in found if change.worse]
    shown = found if everything else [change for change in found if change.worse or change.better]
    click.echo(comparing.same_conditions(a, b))
    if shown:
        click.echo("\n" + comparing.text(shown) + "\n")
    for row, why in gone:
        click.echo(f"LOST: {', '.join(row.key[1:])}: {why}")
    for row in comparing.unmatched(a, b):
        click.echo(f"not measured in B: {', '.join(row.key[1:])}")
    click.echo(
        f"{len(found)} figures compared: {len(worse)} worse,"
        f" {sum(change.better for change in found)} better"
    )
    if worse or gone:
        raise SlipformError(f"{after} is worse than {before} in {len(worse) + len(gone)} places")


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
def report(results: tuple[Path, ...], out: Path, readme: Path | None) -> None:
    """Make a self-contained page of the RESULTS (all of bench/results by default), and the README's
    results section.

    The README is written from committed results only, their figures to bench/results/figures.

    \b
    Example: bench report --readme README.md
    """
    from slipform.bench.result import report as reporting

    paths = list(results) or sorted(RESULTS.glob("*.json"))
    if not paths:
        raise SlipformError(
            f"{RESULTS} holds no results yet: run a suite with --out {RESULTS}/MACHINE-SUITE.json"
        )
    reporting.write_text(out, reporting.page(reporting.read_results(paths)))
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
            reporting.read_results(inside), RESULTS / "figures", readme
        )
        reporting.write_section(readme, section)
        click.echo(f"written to {readme}")
