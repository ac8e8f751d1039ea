"""`bench loaders`: ours and the peers on the same images, with the same work and the same output,
in one race.

In: dataset folders. Out: a row for each loader and kind of work: images/s, the multiple of ffcv
formed round by round, CPU use, memory, time to the first batch.

streaming: the JPEG beton (peers without betons read the same JPEGs as files). resident: the same
images as raw pixels with shorter sides of at most 256 px. small: a set of small raw images
(CIFAR-10), random crop with padding 4.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from slipform.bench.race.contestant import Contestant
from slipform.bench.race.images import image_files, raw_copy
from slipform.bench.race.measure import Effort, figure, interleave, ratio
from slipform.bench.race.work import Work, is_small, usual_work
from slipform.bench.result.result import Row, Settings
from slipform.pipelines.errors import SlipformError, unknown
from slipform.pipelines.manifest import read_manifest
from slipform.pipelines.plan.augmentation import ColorJitter

OURS = "slipform_loader"
EXECUTORS = {"streaming": ("host", "dali"), "resident": ("resident",), "small": ("resident",)}
JITTER = ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4)  # no hue: ffcv has none
# (input, with color jitter) -> our best executor is at least so many times as fast as ffcv's
# Loader, on a CPU
REQUIRED = {
    ("streaming", False): 1.5,
    ("streaming", True): 4.0,
    ("resident", False): 1.5,
    ("resident", True): 6.0,
    ("small", False): 5.0,
    ("small", True): 10.0,
}

Say = Callable[[str], None]


@dataclass(frozen=True)
class Race:
    """One kind of work; `input` is its name in the table."""

    data: str
    input: str
    color_jitter: bool
    work: Work


def peer_names() -> list[str]:
    """The modules in bench/peers that are not ours."""
    from slipform.bench import peers

    return sorted(
        module.name for module in pkgutil.iter_modules(peers.__path__) if module.name != OURS
    )


def chosen_peers(text: str) -> list[str]:
    """ "ffcv,torch" -> the modules whose names begin so; "all"; "none". Raises ConfigError for one
    that is none."""
    if text in ("all", "none"):
        return peer_names() if text == "all" else []
    found = []
    for word in text.split(","):
        matching = [name for name in peer_names() if name.startswith(word.strip())]
        if not matching:
            raise unknown("peer", word.strip(), ["all", "none", *peer_names()])
        found += matching
    return found


@dataclass(frozen=True)
class Conditions:
    """What the caller chooses. batch_size 0: 128, and 512 for small images. inputs and jitter:
    which races to run."""

    cores: int
    batch_size: int = 0
    device: str = "cpu"
    dtype: str = "float32"
    inputs: tuple[str, ...] = tuple(EXECUTORS)
    jitter: tuple[bool, ...] = (False, True)


def races(folder: Path, conditions: Conditions) -> list[Race]:
    """What can be raced with this dataset under these conditions."""
    work = usual_work(
        folder,
        batch_size=conditions.batch_size,
        cores=conditions.cores,
        device=conditions.device,
        dtype=conditions.dtype,
    )
    found = {("small" if is_small(folder) else "resident"): lambda: work}
    if work.stored == "jpeg":
        found = {
            "streaming": lambda: replace(work, files=str(image_files(folder, "train"))),
            "resident": lambda: replace(work, folder=str(raw_copy(folder, 256)), stored="raw"),
        }
    return [
        Race(
            read_manifest(folder).dataset,
            name,
            jittered,
            replace(made, augment=replace(made.augment, color_jitter=JITTER)) if jittered else made,
        )
        for name in found
        if name in conditions.inputs
        for made in [found[name]()]
        for jittered in conditions.jitter
    ]


def run_race(
    race: Race, peers: list[str], executors: Iterable[str], effort: Effort, say: Say
) -> list[Row]:
    """All contestants in turns, each in its own process; one that cannot take part, or dies, is a
    row that says why."""
    entries: dict[str, tuple[str, Settings]] = {
        f"slipform {name}": (OURS, {"executor": name}) for name in executors
    }
    entries |= {name: (name, {}) for name in peers}
    failures: dict[str, str] = {}
    with ExitStack() as stack:
        contestants: dict[str, Contestant] = {}
        for name, (module, fixed) in entries.items():
            contestants[name] = stack.enter_context(Contestant(module, race.work, effort, fixed))
            opening = contestants[name].opening
            say(
                f"{race.input}{' with color jitter' if race.color_jitter else ''}: {name}:"
                f" {opening.status}; {opening.note}"
            )

        def turn(name: str) -> Callable[[], dict[str, float]]:
            def measure() -> dict[str, float]:
                if name in failures:
                    return {}
                try:
                    return contestants[name].measure()
                except (RuntimeError, OSError) as error:
                    failures[name] = str(error)
                    return {}

            return measure

        running = [name for name, one in contestants.items() if one.opening.status == "ok"]
        values = interleave({name: turn(name) for name in running}, effort.rounds)
        memory = {name: contestants[name].memory() for name in running if name not in failures}
    rates = {
        name: found["images_per_second"] for name, found in values.items() if name not in failures
    }
    rows = []
    for name, (module, fixed) in entries.items():
        opening = contestants[name].opening
        work = race.work
        case: Settings = {
            "data": race.data,
            "input": race.input,
            "color_jitter": race.color_jitter,
            "loader": name,
            "batch_size": work.batch_size,
            "image_size": work.augment.image_size,
            "dtype": work.dtype,
            "device": work.device,
        }
        if name not in rates:
            status = "failed" if name in failures else opening.status
            rows.append(
                Row(
                    suite="loaders",
                    case=case,
                    settings=fixed,
                    status=status,
                    note=failures.get(name, opening.note),
                )
            )
            continue
        figures = {key: figure(found) for key, found in values[name].items()}
        for peer in rates:
            if (
                peer != name
                and (peer == "ffcv_loader" or module == OURS)
                and not peer.startswith("slipform")
            ):
                figures[f"multiple_of_{peer.removesuffix('_loader')}"] = ratio(
                    rates[name], rates[peer]
                )
        figures["first_batch_seconds"] = figure(opening.first_batch_seconds)
        figures |= {key: figure([value]) for key, value in memory[name].items()}
        rows.append(
            Row(
                suite="loaders",
                case=case,
                settings=opening.settings,
                figures=figures,
                note=opening.note,
            )
        )
    return rows


def shortfalls(rows: list[Row]) -> list[str]:
    """Where our best executor is below REQUIRED, in words; a multiple that was not measured falls
    short too."""
    found = []
    for name, jittered in sorted(
        {(str(row.case["input"]), bool(row.case["color_jitter"])) for row in rows}
    ):
        ours = [
            row.figures["multiple_of_ffcv"].median
            for row in rows
            if row.case["input"] == name
            and row.case["color_jitter"] == jittered
            and "executor" in row.settings
            if "multiple_of_ffcv" in row.figures
        ]
        wanted = REQUIRED[name, jittered]
        what = f"{name}{' with color jitter' if jittered else ''}"
        if not ours:
            found.append(f"{what}: no multiple of ffcv was measured, at least {wanted} is required")
        elif max(ours) < wanted:
            found.append(f"{what}: {max(ours):.2f} times ffcv, at least {wanted} is required")
    return found


def run(
    folders: Iterable[Path], conditions: Conditions, peers: list[str], effort: Effort, say: Say
) -> list[Row]:
    """Every race that the folders allow."""
    found = [race for folder in folders for race in races(folder, conditions)]
    if not found:
        raise SlipformError(
            f"nothing to race: these folders hold no images for {', '.join(conditions.inputs)}"
        )
    rows: list[Row] = []
    for race in found:
        rows += run_race(race, peers, EXECUTORS[race.input], effort, say)
    return rows
