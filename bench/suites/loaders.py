"""Compare Slipform's executors and other loaders on the same images.

In: dataset folders. Out: a row for each loader and kind of work: images/s, the multiple of ffcv
within each round, CPU use, memory, time to the first batch.

- streaming: the JPEG beton; peers that do not read betons read the same JPEGs as files.
- resident: the same images as raw pixels with shorter sides of at most 256 px.
- small: a dataset of small raw images (CIFAR-10), with a random crop and padding 4.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slipform.bench.options import (
    check_names,
    data_arguments,
    device_name,
    device_option,
    dtype_option,
    out_option,
    quick_option,
    typed,
    words,
)
from slipform.bench.result.layout import Figure, Layout
from slipform.bench.result.plots import loader_bars
from slipform.bench.result.result import Row
from slipform.bench.result.verdict import Verdict, leads_of, of_leads
from slipform.bench.suites import Kept, finish, say
from slipform.pipelines.command import Command
from slipform.pipelines.errors import SlipformError

if TYPE_CHECKING:
    from slipform.bench.race.loading import Conditions
    from slipform.bench.race.race import Effort

__all__ = ["LAYOUT", "REQUIRED", "command", "run", "shortfalls", "verdict"]

# (input, with color jitter) -> the required multiple: the speed of Slipform's best executor on a
# CPU, divided by that of ffcv's Loader.
REQUIRED = {
    ("streaming", False): 1.5,
    ("streaming", True): 4.0,
    ("resident", False): 1.5,
    ("resident", True): 6.0,
    ("small", False): 5.0,
    ("small", True): 10.0,
}


def verdict(results: Sequence[Sequence[Row]]) -> Verdict | None:
    """The speed of Slipform's fastest executor, compared with the fastest peer, in each race.

    Args:
        results: The rows with figures of each result.
    """
    races = [race for rows in results for race in LAYOUT.groups(rows)]
    return of_leads(leads_of(races), "loads images", "the fastest other loader")


LAYOUT = Layout(
    title="Loaders: Slipform and its peers, with the same images, work and output",
    about=(
        "Every loader makes the same batches: crop, flip, normalize, as tensors. streaming: JPEG"
        " files are decoded in every epoch. resident: raw pixels with shorter sides of at most"
        " 256 px. small: small raw images. Longer bars are better."
    ),
    rank=1,
    columns=(
        "images_per_second",
        "multiple_of_ffcv",
        "cpu_cores",
        "first_batch_seconds",
        "resident_bytes",
        "above_imports_bytes",
        "device_used_bytes",
    ),
    group=("data", "input", "color_jitter"),
    figures=(
        Figure(
            "loaders",
            loader_bars,
            "Images per second of each loader; bars are medians, lines their 95 % intervals.",
        ),
    ),
    verdict=verdict,
)


@click.command(cls=Command)
@data_arguments
@click.option(
    "--batch-size",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Images in a batch; 0: 128, for small images 512, for photos 64.",
)
@click.option(
    "--input",
    "inputs",
    default="streaming,resident,small",
    show_default=True,
    help="The kinds of work to measure.",
)
@click.option(
    "--jitter",
    type=click.Choice(["both", "with", "without"]),
    default=None,
    help="Work with or without color jitter. [default: both; --quick: without]",
)
@dtype_option
@device_option
@click.option(
    "--peers",
    default=None,
    help="Other loaders: beginnings of names in bench/peers, such as ffcv,torch; all; none."
    " [default: all; --quick: ffcv,torch,dali]",
)
@click.option(
    "--require",
    is_flag=True,
    help="Exit with 1 if Slipform is below the required multiples of ffcv.",
)
@quick_option
@out_option
def command(
    data: tuple[Path, ...],
    batch_size: int,
    inputs: str,
    jitter: str | None,
    dtype: str,
    device: str,
    peers: str | None,
    require: bool,
    quick: bool,
    out: Path | None,
) -> None:
    """Compare Slipform's executors and other loaders on the images of the dataset folders DATA.

    Slipform's batches overwrite those before them, as in training. In the row "own memory" they do
    not, which is the default of Loader.
    A JPEG dataset is measured as it is (streaming) and as a raw copy of at most 256 px (resident).
    A raw dataset of small images, such as CIFAR-10, is measured as it is (small). JPEGs of a
    megapixel or more are measured in fewer rounds, with the usual settings of each peer, without
    color jitter and without a raw copy.

    \b
    Example: bench loaders data/caltech101 data/cifar10 --require
    """
    from slipform.bench.peers import chosen_peers
    from slipform.bench.race.loading import EXECUTORS, Conditions
    from slipform.bench.race.race import FULL, QUICK
    from slipform.bench.result.environment import stamp

    chosen = words(inputs)
    check_names("--input", chosen, EXECUTORS)
    named = chosen_peers(peers or ("ffcv,torch,dali" if quick else "all"))
    if quick and "--input" not in typed():
        chosen = ["streaming", "small"]
    environment = stamp()
    jitters = {"both": (False, True), "with": (True,), "without": (False,)}[
        jitter or ("without" if quick else "both")
    ]
    conditions = Conditions(
        environment.cores, batch_size, device_name(device), dtype, tuple(chosen), jitters
    )
    kept = Kept("loaders", out, environment, data)
    found = run(data, conditions, named, QUICK if quick else FULL, kept)
    rows = finish("loaders", found, out, environment, kept)
    if require and (lacking := shortfalls(rows)):
        raise SlipformError("below the required multiples:\n  " + "\n  ".join(lacking))


def run(
    folders: Iterable[Path],
    conditions: Conditions,
    peers: list[str],
    effort: Effort,
    kept: Kept | None = None,
) -> Iterator[Row]:
    """Measure all loaders in every race that is possible with the folders.

    Args:
        folders: Dataset folders.
        conditions: The conditions of the races.
        peers: Modules in bench/peers.
        effort: How long each loader is measured.
        kept: Rows that were measured before. None: there are none.

    Yields:
        The rows of all races.

    Raises:
        SlipformError: No race is possible with the folders.
    """
    from slipform.bench.race.loading import EXECUTORS, entrants, races, run_race

    found = [race for folder in folders for race in races(folder, conditions)]
    if not found:
        raise SlipformError(
            f"nothing to measure: these folders have no images for {', '.join(conditions.inputs)}"
        )
    for race in found:
        executors = EXECUTORS[race.input]
        cases = [race.case(name) for name in entrants(race, peers, executors)]
        before = kept.of(*cases) if kept else ()  # the loaders of a race are measured together
        yield from before or run_race(race, peers, executors, effort, say)


def shortfalls(rows: list[Row]) -> list[str]:
    """A text for each race whose best executor is below REQUIRED, or was not measured.

    Args:
        rows: The rows of the suite.
    """
    found = []
    for what, race in LAYOUT.groups(rows):
        ours = [
            row.figures["multiple_of_ffcv"].median
            for row in race
            if "executor" in row.settings and "multiple_of_ffcv" in row.figures
        ]
        case = race[0].case
        wanted = REQUIRED[str(case["input"]), bool(case["color_jitter"])]
        if not ours:
            found.append(f"{what}: no multiple of ffcv was measured, at least {wanted} is required")
        elif max(ours) < wanted:
            found.append(f"{what}: {max(ours):.2f} times ffcv, at least {wanted} is required")
    return found
