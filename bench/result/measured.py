"""How results were measured, in words: machine, versions, command, repeats, spread; and which
result files git holds unchanged.

In: a result. Out: text.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from slipform.bench.result.layout import Layout
from slipform.bench.result.quantities import contestant, quantity
from slipform.bench.result.result import Environment, Result, Row
from slipform.pipelines.errors import SlipformError

METHOD = (
    "Each figure is a median with its 95 % interval in brackets (order statistics; of fewer than"
    " six repeats the smallest and largest). Contestants run in processes of their own and"
    " take turns; a multiple is formed within each round."
)


def machine_text(environment: Environment) -> str:
    """ "AMD EPYC, 2 cores, 24 GiB memory, no GPU"."""
    env = environment
    memory = f"{env.memory_bytes / 2**30:.0f} GiB memory"
    gpu = f", {env.gpu} with driver {env.driver}" if env.gpu else ", no GPU"
    return f"{env.cpu}, {env.cores} cores, {memory}{gpu}"


def versions_text(environment: Environment) -> str:
    """ "Python 3.11.7, slipform 0.2.0, torch 2.15.0"."""
    named = {"Python": environment.python, **environment.versions}
    return ", ".join(f"{name} {number}" for name, number in named.items())


def stamp_text(result: Result) -> str:
    """Machine, versions, commit, date: one line."""
    env = result.environment
    return f"{machine_text(env)}; {versions_text(env)}; commit {env.commit}, {env.date[:10]}"


def facts(path: Path, result: Result, rows: Sequence[Row], layout: Layout) -> list[tuple[str, str]]:
    """What one needs to judge a run, or to repeat it, beside its command.

    Args:
        path: The result's file.
        result: The result.
        rows: Of its first suite.
        layout: That suite's.

    Returns:
        (what, text), in the order of the page.
    """
    env = result.environment
    busy = f"{env.load_average:g} in the minute before, on {env.cores} cores"
    return [
        ("machine", machine_text(env)),
        ("system", env.system),
        ("versions", versions_text(env)),
        ("commit", env.commit or "not run from a checkout"),
        ("date", f"{env.date[:16].replace('T', ' ')} UTC"),
        ("load average", busy),
        *_spread(rows, layout),
        ("file", path.name),
    ]


def _spread(rows: Sequence[Row], layout: Layout) -> list[tuple[str, str]]:
    """Repeats, and how wide the intervals of the suite's main figure are."""
    name = next(iter(layout.columns or ()), "")
    measured = [(row, row.figures[name]) for row in rows if name in row.figures]
    if not measured:
        return []
    repeats = sorted({estimate.repeats for _, estimate in measured})
    several = " to ".join(str(number) for number in dict.fromkeys((repeats[0], repeats[-1])))
    widths = [
        ((estimate.high - estimate.low) / estimate.median, row)
        for row, estimate in measured
        if estimate.repeats > 1 and estimate.median > 0
    ]
    found = [("repeats", f"{several} of each figure")]
    if widths:
        widest, row = max(widths, key=lambda pair: pair[0])
        who = next((str(row.case[n]) for n in ("model", "way", "loader") if n in row.case), "")
        typical = quantity("wait_share").number(median(width for width, _ in widths))
        most = quantity("wait_share").number(widest)
        text = f"the interval of {quantity(name).heading} is {typical} of its median wide"
        if len(widths) > 1:
            text += f" in the middle row, {most} in the widest ({contestant(who)})"
        found.append(("spread", text))
    return found


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
