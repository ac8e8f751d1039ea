"""The images of a dataset folder for those who do not read betons: each stored JPEG as a file of
its own, byte for byte.

In: a dataset folder. Out: a folder of class folders (the layout that torchvision's ImageFolder,
DALI's file reader and timm read), kept under the cache folder and named by the beton's SHA-256, so
that it is made once and never goes stale.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from slipform.pipelines.beton import JPG, Beton
from slipform.pipelines.machine import cache_folder
from slipform.pipelines.manifest import read_manifest


def image_files(folder: Path, split: str) -> Path:
    """Write each JPEG of the split as CLASS/INDEX.jpg, once. Class folders are numbered: sorting
    them gives the labels."""
    manifest = read_manifest(folder)
    target = cache_folder() / "images" / manifest.split(split).sha256[:20]
    if target.is_dir():
        return target
    beton = Beton(folder / manifest.split(split).file)
    building = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    for number in range(manifest.num_classes):
        (building / f"{number:04d}").mkdir(parents=True)
    for index in range(len(beton)):
        assert beton.modes[index] == JPG
        (building / f"{beton.labels[index]:04d}" / f"{index:07d}.jpg").write_bytes(
            beton.bytes_of(index).tobytes()
        )
    try:
        building.rename(target)
    except OSError:  # another run was faster
        shutil.rmtree(building)
    return target


def raw_copy(folder: Path, shorter_side: int) -> Path:
    """The train split as raw pixels, shorter sides at most `shorter_side`: a dataset folder in the
    cache, written once."""
    from slipform.preprocess.encode import Encoding
    from slipform.preprocess.prep import prepare
    from slipform.preprocess.source import Files, SampleSource

    manifest = read_manifest(folder)
    target = cache_folder() / f"raw{shorter_side}" / manifest.split("train").sha256[:20]
    if (target / "dataset.json").is_file():
        return target
    root = image_files(folder, "train")
    beton = Beton(folder / manifest.split("train").file)
    paths = [f"{label:04d}/{index:07d}.jpg" for index, label in enumerate(beton.labels)]
    source = SampleSource(
        dataset=f"{manifest.dataset}-raw{shorter_side}",
        classes=manifest.classes,
        splits={"train": Files(root, paths, beton.labels)},
        split_rule="the train split only",
    )
    prepare(source, target, Encoding("raw", shorter_side=shorter_side))
    return target
