"""Flip labels of a dataset on purpose, and count which of them are found.

In: a dataset folder and a recipe. Out: for each method a row with average precision, precision and
recall, over some seeds: the rankings of `validate --suspects`, and cleanlab on the predictions of
the same model. With --cost: the processor time of the training with and without records.samples,
in turns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click

from slipform.bench.options import data_argument, device_name, device_option, out_option
from slipform.bench.result.layout import Layout
from slipform.bench.result.result import Row, Settings
from slipform.bench.suites import finish, say
from slipform.pipelines.command import Command
from slipform.pipelines.errors import ConfigError, SlipformError

__all__ = ["LAYOUT", "command", "rows_of"]

LAYOUT = Layout(
    title="Wrong labels, found",
    about="Some training labels were flipped on purpose. Average precision is that of the whole"
    " ranking; precision and recall are those of the images that a method calls mislabeled.",
    rank=5,
    columns=(
        "average_precision_share", "precision_share", "recall_share", "process_seconds",
        "cost_ratio",
    ),
)  # fmt: skip


@click.command(cls=Command)
@data_argument
@click.option("--recipe", default="cifar10/fast", show_default=True, help="A recipe.")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="A setting.")
@click.option(
    "--share", type=click.FloatRange(0, 0.5, min_open=True), default=0.02, show_default=True,
    help="The share of the training labels that are flipped.",
)  # fmt: skip
@click.option(
    "--seeds", type=click.IntRange(0), default=1, show_default=True, help="Trainings, each with"
    " other flipped labels. 0: measure --cost alone.",
)  # fmt: skip
@click.option(
    "--cost", type=click.IntRange(0), default=0, show_default=True, metavar="ROUNDS",
    help="Also train so many times with and without records.samples, in turns.",
)  # fmt: skip
@click.option(
    "--runs", type=click.Path(path_type=Path), default=Path("runs/suspects"), show_default=True,
    help="The folder of the datasets and runs; what a former call wrote there is replaced.",
)  # fmt: skip
@device_option
@out_option
def command(
    data: Path, recipe: str, sets: tuple[str, ...], share: float, seeds: int, cost: int,
    runs: Path, device: str, out: Path | None,
) -> None:  # fmt: skip
    """Flip labels of the dataset folder DATA, train, and count which of them are found.

    cleanlab is compared if it is installed: pip install "slipform[suspects]".

    \b
    Example: bench suspects data/cifar10 --seeds 3 --cost 3
    """
    from slipform.bench.race.suspect_run import find_flipped, train_seconds
    from slipform.bench.race.worker import CallFailed, isolated
    from slipform.bench.result.environment import stamp
    from slipform.pipelines.manifest import read_manifest

    if not seeds and not cost:
        raise ConfigError("there is nothing to measure: give --seeds or --cost above 0")
    environment, chosen = stamp(), device_name(device)
    case: Settings = {"data": read_manifest(data).dataset, "recipe": recipe, "flipped": share}
    settings: Settings = {"set": " ".join(sets), "seeds": seeds, "device": chosen}
    given = str(data), recipe, sets, chosen, str(runs)
    found: dict[str, list[dict[str, float]]] = {}
    spent: dict[bool, list[float]] = {False: [], True: []}

    def rows() -> Iterator[Row]:
        """All rows, after each training."""
        for seed in range(seeds):
            one = isolated(find_flipped, *given, share, seed, seconds=24 * 3600.0)
            for method, figures in one.items():
                say(f"seed {seed}, {method}: {figures}")
                found.setdefault(method, []).append(figures)
            yield from rows_of(case, settings, found, spent)
        for k in range(2 * cost):
            on = k % 4 in (1, 2)  # off, on, on, off
            spent[on].append(isolated(train_seconds, *given, on, seconds=24 * 3600.0))
            say(f"records.samples {'on' if on else 'off'}: {spent[on][-1]:.2f} s")
            yield from rows_of(case, settings, found, spent)

    try:
        finish("suspects", rows(), out, environment)
    except CallFailed as failure:
        raise SlipformError(f"a training failed: {failure.note}") from failure


def rows_of(
    case: Settings,
    settings: Settings,
    found: Mapping[str, Sequence[Mapping[str, float]]],
    spent: Mapping[bool, Sequence[float]],
) -> list[Row]:
    """The rows of what was measured so far.

    Args:
        case: What identifies the comparison.
        settings: The settings of all rows.
        found: Method -> its figures, for each seed.
        spent: Whether records.samples was on -> the processor time of each training, in seconds.
            A training without its counterpart of the same round is left out of the ratio.

    Returns:
        A row for each method, and one for the trainings with and without records.samples.
    """
    from slipform.bench.race.measure import estimate

    figures = {
        method: {name: estimate([one[name] for one in ones]) for name in sorted({*ones[0]})}
        for method, ones in found.items()
    }
    for on in (on for on, values in spent.items() if values):
        method = f"training, records.samples {'on' if on else 'off'}"
        figures[method] = {"process_seconds": estimate(spent[on])}
        ratios = [b / a for a, b in zip(spent[False], spent[True], strict=False)]
        if on and ratios:
            figures[method]["cost_ratio"] = estimate(ratios)
    return [
        Row(suite="suspects", case={**case, "method": method}, settings=settings, figures=figure)
        for method, figure in figures.items()
    ]
