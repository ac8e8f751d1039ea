"""Compare two settings of a recipe by paired runs, and stop as soon as it is decided.

In: a recipe, a dataset folder, the settings of two arms. Out: one row. For each seed both arms see
the same batches where the settings allow it, and begin with the same weights where shapes allow it.
The difference of a seed is that of its two runs. `slipform.bench.result.paired` has the statistics:
after each seed it is checked whether the arms differ, at a stated error rate over all looks.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slipform.bench.options import device_name, device_option, out_option
from slipform.bench.race.ab_run import METRICS
from slipform.bench.result.layout import Figure, Layout
from slipform.bench.result.pairs import pairs_of
from slipform.bench.result.result import Estimate, Row, Settings
from slipform.bench.suites import finish, say
from slipform.pipelines.command import Command
from slipform.pipelines.errors import ConfigError, SlipformError

if TYPE_CHECKING:
    from slipform.bench.race.worker import CallFailed
    from slipform.bench.result.paired import Paired

__all__ = ["LAYOUT", "command", "row_of"]

LAYOUT = Layout(
    title="Two settings, paired",
    about="Both arms train with the same seeds: the same batches and first weights. The interval of"
    " the mean difference holds at every look.",
    caption="Mean difference B - A with the interval that holds at every look. Results of the arms:"
    " median and 95 % interval of the median (of fewer than six seeds: smallest and largest).",
    rank=5,
    columns=("mean_difference", "a_result", "b_result"),
    figures=(
        Figure(
            "pairs",
            pairs_of,
            "Both arms of each seed, and the mean difference with its interval.",
        ),
    ),
)


@click.command(cls=Command)
@click.argument("recipe")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="The dataset folder.")
@click.option("--set", "a", multiple=True, metavar="KEY=VALUE", help="A setting of A.")
@click.option("--vs", "b", multiple=True, metavar="KEY=VALUE", help="A setting of B.")
@click.option("--both", multiple=True, metavar="KEY=VALUE", help="A setting of both.")
@click.option(
    "--seeds", type=click.IntRange(2), default=10, show_default=True, help="The most seeds."
)
@click.option(
    "--metric", type=click.Choice(METRICS), default=METRICS[0], show_default=True,
    help="The figure of a run that is compared.",
)  # fmt: skip
@click.option(
    "--alpha",
    type=click.FloatRange(0, 0.5, min_open=True),
    default=0.05,
    show_default=True,
    help="The chance that equal settings are ever called different, if differences are normal.",
)
@click.option(
    "--runs",
    type=click.Path(path_type=Path),
    default=Path("runs/ab"),
    show_default=True,
    help="The folder of the runs. Finished runs are used again.",
)
@device_option
@out_option
def command(
    recipe: str,
    data: Path,
    a: tuple[str, ...],
    b: tuple[str, ...],
    both: tuple[str, ...],
    seeds: int,
    metric: str,
    alpha: float,
    runs: Path,
    device: str,
    out: Path | None,
) -> None:
    """Compare settings A and B of RECIPE by paired runs, and stop as soon as it is decided.

    \b
    Examples: bench ab shapes/demo --data data/shapes --set optimizer.lr=0.05 --vs optimizer.lr=0.1
              bench ab cifar10/fast --data data/cifar10 --vs loss.label_smoothing=0.2 --seeds 20
    """
    from slipform.bench.race.ab_run import settings_of, train_arm
    from slipform.bench.race.worker import CallFailed, isolated
    from slipform.bench.result.environment import stamp
    from slipform.bench.result.paired import paired
    from slipform.pipelines.manifest import read_manifest

    arms = (*both, *a), (*both, *b)
    if settings_of(str(data), recipe, arms[0], 0) == settings_of(str(data), recipe, arms[1], 0):
        raise ConfigError("both arms have the same settings: give --set for A, --vs for B")
    environment, chosen = stamp(), device_name(device)
    case: Settings = {
        "data": read_manifest(data).dataset,
        "recipe": recipe,
        "a": " ".join(arms[0]) or "the recipe",
        "b": " ".join(arms[1]) or "the recipe",
        "metric": metric,
        "device": chosen,
    }
    results: tuple[list[float], list[float]] = ([], [])
    failed: CallFailed | None = None
    others: set[str] = set()  # the commits of runs that other versions of Slipform trained

    def result(seed: int, name: str, sets: tuple[str, ...]) -> float:
        folder = str(runs / name / f"seed-{seed}")
        first = "" if (name, seed) == ("a", 0) else str(runs / "a" / "seed-0")
        given = (str(data), recipe, sets, arms[0], seed, chosen, folder, first)
        if (commit := _commit(Path(folder), environment.commit)) != environment.commit:
            others.add(commit)
        try:
            found = isolated(train_arm, *given, seconds=24 * 3600.0)
        except CallFailed as failure:
            note = f"arm {name.upper()}, seed {seed}: {failure.note}"
            raise CallFailed(note, failure.status) from failure
        if metric not in found:
            has = ", ".join(name for name in METRICS if name in found) or "none of them"
            raise ConfigError(
                f"the runs have no {metric}, because {data} lacks that split: give --metric with"
                f" what they have ({has})"
            )
        return float(found[metric])

    def rows() -> Iterator[Row]:
        """The row of all seeds so far, after each seed."""
        nonlocal failed
        for seed in range(seeds):
            try:
                pair = [result(seed, name, sets) for name, sets in zip("ab", arms, strict=True)]
            except CallFailed as failure:
                failed = failure
                yield row_of(case, results, alpha, failed)
                return
            for kept, value in zip(results, pair, strict=True):
                kept.append(value)
            state = paired(*results, alpha)
            say(_line(seed, results, state, alpha))
            yield row_of(case, results, alpha, note=_note(others))
            if state.decided:
                return

    finish("ab", rows(), out, environment)
    if failed is not None:
        # Without that seed the others would be a choice: its result may be what differs.
        said = failed.note.removesuffix(".")
        raise SlipformError(f"{said}. {len(results[0])} pairs were trained before.")
    click.echo(_verdict(results, metric, alpha) + (f"\nwarning: {_note(others)}" if others else ""))


def _commit(run: Path, commit: str) -> str:
    """The commit that began a run; it is written beside a run that has not begun."""
    from slipform.pipelines.files import write_whole

    path = run.with_name(f"{run.name}.commit")
    if not run.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, commit)
    return path.read_text(encoding="utf-8") if path.exists() else "an unknown commit"


def _note(commits: set[str]) -> str:
    if not commits:
        return ""
    return f"some runs were trained before, by {', '.join(sorted(commits))}: see --runs"


def _line(seed: int, results: tuple[list[float], list[float]], state: Paired, alpha: float) -> str:
    a, b = results[0][-1], results[1][-1]
    text = f"seed {seed}: A {a:.4f}, B {b:.4f}, B - A {b - a:+.4f}"
    if seed:
        known = (
            f"{state.low:+.4f} to {state.high:+.4f}" if math.isfinite(state.high) else "no limit"
        )
        text += f"; mean {state.mean:+.4f} ({known})"
        text += f", evidence {state.evidence:.3g} of {1 / alpha:.3g}"
    return text


def _verdict(results: tuple[Sequence[float], Sequence[float]], metric: str, alpha: float) -> str:
    from slipform.bench.result.paired import POWER, fewest_seeds, paired

    state, seeds = paired(*results, alpha), len(results[0])
    if state.decided:
        which = "higher" if state.mean > 0 else "lower"
        text = f"B has a {which} {metric} than A: by {abs(state.mean):.4f} after {seeds} seeds"
    else:
        text = f"not decided after {seeds} seeds: the mean difference is {state.mean:+.4f}"
        if seeds < (fewest := fewest_seeds(alpha)):
            text += f"; with --alpha {alpha:g} no result of fewer than {fewest} seeds decides"
    text += f"; the error rate over all looks is at most {alpha:g} if the differences are normal"
    in_pairs, alone = _needed(results, alpha)
    if in_pairs is not None and alone is not None:
        text += (
            f". This rule finds a difference of this size after about {in_pairs} seeds in pairs, or"
            f" {alone} seeds an arm without pairs (power {POWER:g})"
        )
    if state.few_values:
        text += (
            f"\nwarning: at most half of the {seeds} differences are distinct, so that they are not"
            " normal, and the error rate may be higher. Give --metric test_loss, or a larger test"
            " split"
        )
    return text


def _needed(
    results: tuple[Sequence[float], Sequence[float]], alpha: float
) -> tuple[int | None, int | None]:
    """The number of seeds that the rule needs with pairs, and in each arm without."""
    from slipform.bench.result.paired import seeds_needed

    a, b = results
    if len(a) < 2:
        return None, None
    differences = [y - x for x, y in zip(a, b, strict=True)]
    mean, alone = statistics.fmean(differences), statistics.variance(a) + statistics.variance(b)
    in_pairs = seeds_needed(mean, statistics.variance(differences), alpha)
    return in_pairs, seeds_needed(mean, alone, alpha)


def row_of(
    case: Settings,
    results: tuple[Sequence[float], Sequence[float]],
    alpha: float,
    failed: CallFailed | None = None,
    *,
    note: str = "",
) -> Row:
    """The row of a comparison.

    Args:
        case: What identifies the comparison.
        results: The results of arm A and of arm B, one for each seed.
        alpha: The error rate.
        failed: Why a run has no result; the pairs before it are in `results`. None: all have one.
        note: The note of the row of a comparison that did not fail.

    Returns:
        A row; mean_difference has the mean and the interval that holds at every look, a_result and
        b_result have medians. The row of a failed comparison has no figures.
    """
    from slipform.bench.race.measure import estimate
    from slipform.bench.result.paired import paired

    n = len(results[0])
    if failed is not None:
        before: Settings = {"seeds": n, **_all(results)}
        return Row(suite="ab", case=case, status=failed.status, note=failed.note, settings=before)
    state = paired(*results, alpha)
    figures = {"a_result": estimate(results[0]), "b_result": estimate(results[1])}
    if math.isfinite(state.high):
        figures["mean_difference"] = Estimate(
            median=state.mean, low=state.low, high=state.high, repeats=n
        )
    varies = n > 2 and min(map(statistics.pvariance, results)) > 0
    in_pairs, alone = _needed(results, alpha)
    return Row(
        suite="ab",
        case=case,
        note=note,
        settings={
            "seeds": n,
            **_all(results),
            "alpha": alpha,
            "decided": state.decided,
            "few_values": state.few_values,
            "mean": round(state.mean, 6),
            "deviation": None if math.isnan(state.deviation) else round(state.deviation, 6),
            "correlation": round(statistics.correlation(*results), 3) if varies else None,
            "seeds_paired": in_pairs,
            "seeds_unpaired": alone,
        },
        figures=figures,
    )


def _all(results: tuple[Sequence[float], Sequence[float]]) -> dict[str, str]:
    """The results of all seeds as texts: a row holds single values."""
    return {
        f"{arm}_results": " ".join(f"{value:.6g}" for value in found)
        for arm, found in zip("ab", results, strict=True)
    }
