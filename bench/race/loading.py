"""The races of the loaders: the kinds of work with a dataset folder, and the loaders that do them.

In: a dataset folder and conditions. Out: rows. slipform.bench.suites.loaders explains the kinds of
work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from slipform.bench.images import image_files, raw_copy
from slipform.bench.peers import OURS
from slipform.bench.race.contestant import Contestant, Opening
from slipform.bench.race.measure import estimate
from slipform.bench.race.race import QUICK, Effort, Rounds
from slipform.bench.race.race import race as run_rounds
from slipform.bench.race.worker import CallFailed
from slipform.bench.result.result import Row, Settings
from slipform.bench.work import Work, has_photos, is_small, usual_work
from slipform.pipelines.executors import GPU_ONLY
from slipform.pipelines.manifest import read_manifest
from slipform.pipelines.plan.color_jitter import ColorJitter

__all__ = ["EXECUTORS", "JITTER", "Conditions", "Race", "entrants", "races", "run_race"]

# Kind of work -> Slipform's executors in its races, the fastest on a CPU first. `stream` takes part
# on a GPU.
EXECUTORS = {
    "streaming": ("host", "dali", "stream"),
    "resident": ("resident",),
    "small": ("resident",),
}
JITTER = ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4)  # ffcv has no hue


@dataclass(frozen=True)
class Conditions:
    """The conditions of the races.

    Attributes:
        cores: The number of cores that a process may use.
        batch_size: Images in a batch; 0: as in `usual_work`.
        device: "cpu" or "cuda".
        dtype: The dtype of the images: "float32", "float16" or "bfloat16".
        inputs: The kinds of work.
        jitter: Whether the work has color jitter; one race for each value. Of both, photos have the
            race without: colors take little of their time.
    """

    cores: int
    batch_size: int = 0
    device: str = "cpu"
    dtype: str = "float32"
    inputs: tuple[str, ...] = tuple(EXECUTORS)
    jitter: tuple[bool, ...] = (False, True)


Entrant = tuple[str, Settings]  # a module in bench/peers, and fixed settings


@dataclass(frozen=True)
class Race:
    """One race.

    Attributes:
        data: The name of the dataset.
        input: The kind of work, as in the table.
        color_jitter: Whether the work has color jitter.
        work: The work.
        photos: Whether the images are photos, of which a second of a core decodes a few.
    """

    data: str
    input: str
    color_jitter: bool
    work: Work
    photos: bool = False

    def case(self, loader: str) -> Settings:
        """The case of a loader's row.

        Args:
            loader: The name of the loader in the table.
        """
        work = self.work
        return {
            "data": self.data,
            "input": self.input,
            "color_jitter": self.color_jitter,
            "loader": loader,
            "batch_size": work.batch_size,
            "image_size": work.augment.image_size,
            "dtype": work.dtype,
            "device": work.device,
        }


def races(folder: Path, conditions: Conditions) -> list[Race]:
    """The races with a dataset folder.

    Args:
        folder: The dataset folder.
        conditions: The conditions.
    """
    work = usual_work(
        folder,
        batch_size=conditions.batch_size,
        cores=conditions.cores,
        device=conditions.device,
        dtype=conditions.dtype,
    )
    makers: dict[str, Callable[[], Work]] = {
        "small" if is_small(folder) else "resident": lambda: work
    }
    if work.stored == "jpeg":
        makers = {
            "streaming": lambda: replace(work, files=str(image_files(folder, "train"))),
            "resident": lambda: replace(work, folder=str(raw_copy(folder, 256)), stored="raw"),
        }
    dataset, found, photos = _name(folder), [], has_photos(folder)
    if photos:  # as raw pixels of 256 px they are like other images
        makers.pop("resident")
    jitters = (False,) if photos and len(conditions.jitter) > 1 else conditions.jitter
    for name in makers:
        if name in conditions.inputs:
            plain = makers[name]()
            jittered = replace(plain, augment=replace(plain.augment, color_jitter=JITTER))
            found += [
                Race(dataset, name, jitter, jittered if jitter else plain, photos)
                for jitter in jitters
            ]
    return found


def _name(folder: Path) -> str:
    """The name of a dataset in the rows. Own and generated images have that of their folder."""
    name = read_manifest(folder).dataset
    return folder.absolute().name if name in ("images", "shapes") else name


def entrants(race: Race, peers: list[str], executors: Sequence[str]) -> dict[str, Entrant]:
    """The loaders of a race.

    Args:
        race, peers, executors: As for `run_race`.

    Returns:
        The name of each loader in the table -> its module in bench/peers, and its fixed settings.
    """
    entries: dict[str, Entrant] = {
        f"slipform {name}": (OURS, {"executor": name})
        for name in executors
        if name not in GPU_ONLY or race.work.device.startswith("cuda")
    }
    if race.work.device == "cpu":
        default: Settings = {"executor": executors[0], "reuse_buffers": False}
        entries[f"slipform {executors[0]}, own memory"] = (OURS, default)
    return entries | {name: (name, {}) for name in peers}


def run_race(
    race: Race,
    peers: list[str],
    executors: Sequence[str],
    effort: Effort,
    say: Callable[[str], None],
) -> list[Row]:
    """Measure all loaders in turns, each in its own process.

    Args:
        race: The race.
        peers: Modules in bench/peers.
        executors: Slipform's executors, the fastest first. On a CPU the first one also takes part
            with batches that have memory of their own, as by default. (On a GPU, torch's allocators
            keep freed memory.)
        effort: How long each loader is measured.
        say: Called with a message about each loader that was opened.

    Returns:
        A row for each loader. The row of a loader that cannot take part, or dies, has the reason.
    """
    entries = entrants(race, peers, executors)
    if race.photos:  # otherwise one race takes hours
        few = {"rounds": min(effort.rounds, QUICK.rounds), "min_batches": QUICK.min_batches}
        effort = replace(effort, **few, search=False, openings=1)
    memory: dict[str, dict[str, float]] = {}
    what = f"{race.input}{' with color jitter' if race.color_jitter else ''}"
    with ExitStack() as stack:
        contestants: dict[str, Contestant] = {}
        for name, (module, fixed) in entries.items():
            contestants[name] = stack.enter_context(Contestant(module, race.work, effort, fixed))
            opening = contestants[name].opening
            say(f"{what}: {name}: {opening.status}; {opening.note}")
        running = {
            name: one.measure for name, one in contestants.items() if one.opening.status == "ok"
        }
        found = run_rounds(running, effort.rounds, say=say)
        for name in list(found.values):
            try:
                memory[name] = contestants[name].memory()
            except CallFailed as failure:
                found.drop(name, failure)
    rows = []
    for name, (_, fixed) in entries.items():
        opening = contestants[name].opening
        if name in found.values:
            rows.append(_row(race, name, opening, found, memory[name]))
            continue
        reason = found.failures.get(name) or opening
        rows.append(
            Row(
                suite="loaders",
                case=race.case(name),
                settings=fixed,
                status=reason.status,
                note=reason.note,
            )
        )
    return rows


def _row(race: Race, name: str, opening: Opening, found: Rounds, memory: dict[str, float]) -> Row:
    """The row of a loader: Slipform's compared with every peer, a peer compared with ffcv."""
    figures = found.estimates(name)
    ours = name.startswith("slipform")
    for peer in found.values:
        if peer != name and not peer.startswith("slipform") and (ours or peer == "ffcv_loader"):
            figures[f"multiple_of_{peer.removesuffix('_loader')}"] = found.ratio(name, peer)
    figures["first_batch_seconds"] = estimate(opening.first_batch_seconds)
    figures |= {key: estimate([value]) for key, value in memory.items()}
    return Row(
        suite="loaders",
        case=race.case(name),
        settings=opening.settings,
        figures=figures,
        note=opening.note,
    )
