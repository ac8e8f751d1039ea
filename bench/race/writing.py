"""Ways of writing a dataset: Slipform's writer, and ffcv's DatasetWriter.

In: a dataset folder. Its images are the source: JPEGs as files, or raw pixels as an array in
memory. Out: one measurement for each `Writing.measure()`.

ffcv encodes every JPEG again, at its default quality of 90; its field cannot keep the bytes.
Slipform keeps the bytes. It is measured with the check (reading all codes of every image) and
without it. Slipform also computes a SHA-256 and a CRC for each sample, and flushes to the disk;
ffcv does not.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from slipform.bench.race.race import cpu_seconds
from slipform.pipelines.dataset import open_dataset
from slipform.pipelines.machine import resident_bytes
from slipform.pipelines.manifest import read_manifest

__all__ = ["Task", "Writing", "ways"]


@dataclass(frozen=True)
class Task:
    """A dataset to write.

    Attributes:
        folder: The dataset folder; its train split is written again.
        files: The folder of its JPEGs as files (see slipform.bench.images); "" for raw images.
        workers: Threads of Slipform, processes of ffcv.
    """

    folder: str
    files: str
    workers: int


class Writing:
    """One way of writing a dataset. It runs in its own process.

    Args:
        way: One of `ways`.
        task: The dataset to write.

    Attributes:
        beton: The beton of the source.
    """

    def __init__(self, way: str, task: Task) -> None:
        self._task = task
        self._write = _WAYS["jpeg" if task.files else "raw"][way]
        self.beton = open_dataset(task.folder).beton("train")
        self._samples = len(self.beton)

    def measure(self) -> dict[str, float]:
        """Write the dataset once, into a temporary folder.

        Returns:
            images_per_second, and cpu_cores: CPU seconds of this process and its workers for each
            second.
        """
        scratch = Path(tempfile.mkdtemp(prefix="slipform-bench-"))
        try:
            cpu, start = cpu_seconds(), time.perf_counter()
            self._write(self, scratch / "out")
            elapsed = time.perf_counter() - start
            return {
                "images_per_second": self._samples / elapsed,
                "cpu_cores": (cpu_seconds() - cpu) / elapsed,
            }
        finally:
            shutil.rmtree(scratch)

    def memory(self) -> float:
        """Peak resident memory so far, in bytes."""
        return float(resident_bytes())

    @property
    def paths(self) -> list[str]:
        """The paths of the JPEG files; see slipform.bench.images.image_files."""
        return [f"{label:04d}/{index:07d}.jpg" for index, label in enumerate(self.beton.labels)]

    @cached_property
    def pixels(self) -> Any:
        """All images, uint8 [N, H, W, 3]. The warm-up reads them: that time does not count."""
        import numpy as np

        return np.stack([self.beton.raw(index) for index in range(len(self.beton))])

    def _ours(self, out: Path, *, check: bool = True) -> None:
        from slipform.preprocess.build import build_dataset
        from slipform.preprocess.encode import Encoding
        from slipform.preprocess.source import Arrays, Files, SampleSource

        task, labels = self._task, self.beton.labels
        manifest = read_manifest(Path(task.folder))
        samples = (
            Files(Path(task.files), self.paths, labels)
            if task.files
            else Arrays(self.pixels, labels, "bench")
        )
        source = SampleSource(manifest.dataset, manifest.classes, {"train": samples}, "as given")
        encoding = Encoding("keep" if task.files else "raw", check=check)
        build_dataset(source, out, encoding, threads=task.workers)

    def _ours_unchecked(self, out: Path) -> None:
        self._ours(out, check=False)

    def _ffcv(self, out: Path) -> None:
        os.environ["TQDM_DISABLE"] = "1"
        from ffcv.fields import IntField, RGBImageField
        from ffcv.writer import DatasetWriter

        image = (
            RGBImageField(write_mode="jpg", jpeg_quality=90)
            if self._task.files
            else RGBImageField(write_mode="raw")
        )
        out.mkdir()
        writer = DatasetWriter(
            str(out / "train.beton"),
            {"image": image, "label": IntField()},
            num_workers=self._task.workers,
        )
        writer.from_indexed_dataset(_Indexed(self, self._task.files))


class _Indexed:
    """The same images as a dataset for ffcv: index -> (uint8 [H, W, 3], label)."""

    def __init__(self, writing: Writing, files: str) -> None:
        self._labels = writing.beton.labels
        self._paths = [os.path.join(files, path) for path in writing.paths] if files else []
        self._pixels = None if files else writing.pixels

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        if self._pixels is not None:
            return self._pixels[index], int(self._labels[index])
        import numpy as np
        from PIL import Image

        with Image.open(self._paths[index]) as image:
            return np.asarray(image.convert("RGB")), int(self._labels[index])


_WAYS: dict[str, dict[str, Callable[[Writing, Path], None]]] = {
    "jpeg": {
        "slipform keep, no check": Writing._ours_unchecked,
        "slipform keep": Writing._ours,
        "ffcv jpg quality 90": Writing._ffcv,
    },
    "raw": {"slipform raw": Writing._ours, "ffcv raw": Writing._ffcv},
}


def ways(stored: str) -> list[str]:
    """The names of all ways of writing images.

    Args:
        stored: "jpeg" or "raw".
    """
    return list(_WAYS[stored])
