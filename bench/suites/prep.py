"""`bench prep`: our writer and ffcv's DatasetWriter on the same images with the same number of
workers.

In: a dataset folder, whose images are the source: its JPEGs as single files, its raw pixels as one
array in memory. Out: a row for each way of writing, images/s and the multiple of ffcv.

ffcv re-encodes every JPEG (its field has no other way) at quality 90, its default; ours keeps the
bytes, with and without decoding every image to check it. Ours also hashes, computes a CRC for each
sample and flushes to the disk; ffcv does not.
"""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipform.bench.race.images import image_files
from slipform.bench.race.measure import Effort, figure, interleave, ratio
from slipform.bench.race.work import stored_as
from slipform.bench.race.worker import Died, Workplace
from slipform.bench.result.result import Row, Settings
from slipform.pipelines.beton import Beton
from slipform.pipelines.machine import resident_bytes
from slipform.pipelines.manifest import read_manifest

FULL, QUICK = Effort(rounds=7), Effort(rounds=3)
REQUIRED = {"slipform keep, no check": 10.0, "slipform keep": 1.5, "slipform raw": 3.0}
CALL_SECONDS = 600.0  # ffcv's writer polls for ever when a worker dies


@dataclass(frozen=True)
class Task:
    """Write the train split of `folder` again. files: its JPEGs ("" where it is raw)."""

    folder: str
    files: str
    workers: int


def ways(stored: str) -> dict[str, Callable[[Task, Path], None]]:
    """Every way of writing images that are stored as `stored`."""
    if stored == "jpeg":
        return {
            "slipform keep, no check": _ours_unchecked,
            "slipform keep": _ours,
            "ffcv jpg quality 90": _ffcv,
        }
    return {"slipform raw": _ours, "ffcv raw": _ffcv}


def write_once(way: str, task: Task) -> dict[str, float]:
    """One repeat: images_per_second, and cpu_cores: CPU seconds of this process and its ended
    workers for each second."""
    write = ways("jpeg" if task.files else "raw")[way]
    split = read_manifest(Path(task.folder)).split("train")
    scratch = Path(tempfile.mkdtemp(prefix="slipform-bench-"))
    try:
        cpu, start = _cpu_seconds(), time.perf_counter()
        write(task, scratch / "out")
        elapsed = time.perf_counter() - start
        return {
            "images_per_second": split.num_samples / elapsed,
            "cpu_cores": (_cpu_seconds() - cpu) / elapsed,
        }
    finally:
        shutil.rmtree(scratch)


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _ours(task: Task, out: Path) -> None:
    _prepare(task, out, check=True)


def _ours_unchecked(task: Task, out: Path) -> None:
    _prepare(task, out, check=False)


def _prepare(task: Task, out: Path, *, check: bool) -> None:
    from slipform.preprocess.encode import Encoding
    from slipform.preprocess.prep import prepare
    from slipform.preprocess.source import Arrays, Files, SampleSource

    manifest, beton = read_manifest(Path(task.folder)), _beton(task)
    samples = (
        Files(Path(task.files), _paths(beton), beton.labels)
        if task.files
        else Arrays(_pixels(task), beton.labels, "bench")
    )
    source = SampleSource(manifest.dataset, manifest.classes, {"train": samples}, "as given")
    prepare(
        source, out, Encoding("keep" if task.files else "raw", check=check), workers=task.workers
    )


def _ffcv(task: Task, out: Path) -> None:
    os.environ["TQDM_DISABLE"] = "1"
    from ffcv.fields import IntField, RGBImageField
    from ffcv.writer import DatasetWriter

    image = (
        RGBImageField(write_mode="jpg", jpeg_quality=90)
        if task.files
        else RGBImageField(write_mode="raw")
    )
    out.mkdir()
    writer = DatasetWriter(
        str(out / "train.beton"), {"image": image, "label": IntField()}, num_workers=task.workers
    )
    writer.from_indexed_dataset(_Indexed(task))


class _Indexed:
    """The same images as ffcv wants them: index -> (uint8 [H, W, 3], label)."""

    def __init__(self, task: Task) -> None:
        beton = _beton(task)
        self._labels = beton.labels
        self._paths = (
            [os.path.join(task.files, path) for path in _paths(beton)] if task.files else []
        )
        self._pixels = None if task.files else _pixels(task)

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        if self._pixels is not None:
            return self._pixels[index], int(self._labels[index])
        import numpy as np
        from PIL import Image

        with Image.open(self._paths[index]) as image:
            return np.asarray(image.convert("RGB")), int(self._labels[index])


def _beton(task: Task) -> Beton:
    return Beton(Path(task.folder) / read_manifest(Path(task.folder)).split("train").file)


def _paths(beton: Beton) -> list[str]:
    """As slipform.bench.race.images.image_files names them."""
    return [f"{label:04d}/{index:07d}.jpg" for index, label in enumerate(beton.labels)]


_PIXELS: dict[
    str, Any
] = {}  # read once in each process: the source, not part of what is timed from the second repeat on


def _pixels(task: Task) -> Any:
    if task.folder not in _PIXELS:
        import numpy as np

        beton = _beton(task)
        _PIXELS[task.folder] = np.stack([beton.raw(index) for index in range(len(beton))])
    return _PIXELS[task.folder]


def run(
    folder: Path, workers: int, peers: bool, effort: Effort, say: Callable[[str], None]
) -> list[Row]:
    """Every way in turns, each in a process of its own; the first write of each is thrown away
    (imports, file cache)."""
    stored = stored_as(folder)
    task = Task(str(folder), str(image_files(folder, "train")) if stored == "jpeg" else "", workers)
    names = [way for way in ways(stored) if peers or not way.startswith("ffcv")]
    dead: dict[str, str] = {}
    with ExitStack() as stack:
        places = {way: stack.enter_context(Workplace()) for way in names}

        def turn(way: str) -> Callable[[], dict[str, float]]:
            def write() -> dict[str, float]:
                found = (
                    {}
                    if way in dead
                    else places[way].call(write_once, way, task, seconds=CALL_SECONDS)
                )
                if isinstance(found, Died):
                    dead[way] = found.note
                    found = {}
                return dict(found)

            return write

        for way in names:
            turn(way)()
            say(f"{way}: {dead.get(way, 'ready')}")
        values = interleave({way: turn(way) for way in names if way not in dead}, effort.rounds)
        memory = {way: places[way].call(resident_bytes) for way in values if way not in dead}
    rows = []
    for way in names:
        case: Settings = {"data": read_manifest(folder).dataset, "way": way, "workers": workers}
        if way in dead:
            missing = "ModuleNotFoundError" in dead[way]
            rows.append(
                Row(
                    suite="prep",
                    case=case,
                    status="not installed" if missing else "failed",
                    note=dead[way],
                )
            )
            continue
        figures = {name: figure(found) for name, found in values[way].items()}
        figures["resident_bytes"] = figure([float(memory[way])])
        peer = next((name for name in values if name.startswith("ffcv") and name not in dead), None)
        if peer is not None and peer != way:
            figures["multiple_of_ffcv"] = ratio(
                values[way]["images_per_second"], values[peer]["images_per_second"]
            )
        rows.append(Row(suite="prep", case=case, figures=figures))
    return rows


def shortfalls(rows: list[Row]) -> list[str]:
    """Where ours is below REQUIRED, in words; a multiple that was not measured falls short too."""
    found = []
    for row in rows:
        wanted, multiple = REQUIRED.get(str(row.case["way"])), row.figures.get("multiple_of_ffcv")
        if wanted is not None and (multiple is None or multiple.median < wanted):
            measured = (
                f"{multiple.median:.2f} times ffcv" if multiple else "not measured beside ffcv"
            )
            found.append(f"{row.case['way']}: {measured}, at least {wanted} is required")
    return found
