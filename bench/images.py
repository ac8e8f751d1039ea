"""The images of a dataset folder in other forms: single JPEG files, byte for byte, for peers that
do not read betons, and raw pixels.

In: a dataset folder. Out: a folder in the cache folder, named by the beton's SHA-256, so that it is
made once and is never out of date.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from slipform.pipelines.beton import JPG, Beton
from slipform.pipelines.machine import cache_folder
from slipform.pipelines.manifest import read_manifest


def image_files(folder: Path, split: str) -> Path:
    """Write each JPEG of a split as CLASS/INDEX.jpg, once.

    torchvision's ImageFolder, DALI's file reader and timm read this layout. Class folders are
    numbered, so that sorting them gives the labels.

    Args:
        folder: The dataset folder.
        split: Its split; all samples are JPEGs.

    Returns:
        The folder of the class folders.
    """
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
    except OSError:
        shutil.rmtree(building)  # another run was faster
    return target


def raw_copy(folder: Path, shorter_side: int) -> Path:
    """The train split as raw pixels, written once.

    Args:
        folder: The dataset folder; its train split holds JPEGs.
        shorter_side: The largest shorter side of an image, in pixels.

    Returns:
        A dataset folder in the cache folder.
    """
    from slipform.preprocess.build import build_dataset
    from slipform.preprocess.encode import Encoding
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
    build_dataset(source, target, Encoding("raw", shorter_side=shorter_side))
    return target
