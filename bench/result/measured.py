"""How results were measured, as text: machine, versions, repeats; and which files are committed.

In: a result, or paths of files. Out: text, or lists of paths.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from slipform.bench.result.layout import Layout
from slipform.bench.result.quantities import contestant, quantity
from slipform.bench.result.result import Environment, Result, Row
from slipform.pipelines.errors import SlipformError
from slipform.pipelines.number_text import number_of

__all__ = [
    "METHOD",
    "command_text",
    "committed",
    "facts",
    "machine_text",
    "stamp_text",
    "versions_text",
]

METHOD = (
    "Each figure is a median with its 95 % interval in brackets (order statistics; of fewer than"
    " six repeats the smallest and largest). Contestants run in processes of their own and"
    " take turns; a multiple is formed within each round."
)


def machine_text(environment: Environment) -> str:
    """The machine as text, such as "AMD EPYC, 2 cores, 24 GiB memory, no GPU".

    Args:
        environment: The environment of a result.
    """
    env = environment
    memory = f"{env.memory_bytes / 2**30:.0f} GiB memory"
    gpu = f", {env.gpu} with driver {env.driver}" if env.gpu else ", no GPU"
    return f"{env.cpu}, {number_of(env.cores, 'core')}, {memory}{gpu}"


def versions_text(environment: Environment) -> str:
    """The versions as text, such as "Python 3.11.7, slipform 0.2.0, torch 2.15.0".

    Args:
        environment: The environment of a result.
    """
    named = {"Python": environment.python, **environment.versions}
    return ", ".join(f"{name} {number}" for name, number in named.items())


def stamp_text(result: Result) -> str:
    """The machine, the versions, the commit and the date in one line.

    Args:
        result: The result.
    """
    env = result.environment
    return f"{machine_text(env)}; {versions_text(env)}; commit {env.commit}, {env.date[:10]}"


def command_text(result: Result) -> str:
    """The command of a result, without the file to which it was written.

    Args:
        result: The result.
    """
    words = iter(shlex.split(result.command))
    kept = []
    for word in words:
        if word == "--out":
            next(words, "")
        elif not word.startswith("--out="):
            kept.append(word)
    return shlex.join(kept)


def facts(path: Path, result: Result, rows: Sequence[Row], layout: Layout) -> list[tuple[str, str]]:
    """The facts that are needed to repeat a run, except its command.

    Args:
        path: The file of the result.
        result: The result.
        rows: The rows of its first suite.
        layout: The layout of that suite.

    Returns:
        (name of the fact, text), in the order of the page.
    """
    env = result.environment
    busy = f"{env.load_average:g} in the minute before, on {number_of(env.cores, 'core')}"
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
    """The number of repeats, and the width of the intervals of the suite's main quantity."""
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
    """Divide files into those that are committed to git without changes, and the others.

    Args:
        paths: The files.

    Returns:
        The committed files, and the others.

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
            "git is not installed; it is needed to find the committed results. Install it."
        ) from None
