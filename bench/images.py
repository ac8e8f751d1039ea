"""The images of a dataset folder in other forms: as JPEG files with the same bytes, as raw pixels.

In: a dataset folder. Out: a folder in the cache folder. Its name contains the beton's SHA-256, so
it is written once and is never outdated. Peers that do not read betons use the JPEG files.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from slipform.pipelines.beton_format import JPG
from slipform.pipelines.dataset import open_split
from slipform.pipelines.machine import cache_folder
from slipform.pipelines.manifest import read_manifest

__all__ = ["image_files", "raw_copy"]


def image_files(folder: Path, split: str) -> Path:
    """Write each JPEG of a split as CLASS/INDEX.jpg, if that has not been done yet.

    torchvision's ImageFolder, DALI's file reader and timm read this layout. The names of class
    folders are numbers, so that their order gives the labels.

    Args:
        folder: The dataset folder.
        split: The split; all its samples are JPEGs.

    Returns:
        The folder with the class folders.
    """
    manifest = read_manifest(folder)
    target = cache_folder() / "images" / manifest.split(split).sha256[:20]
    if target.is_dir():
        return target
    beton = open_split(folder, manifest, split)
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
        shutil.rmtree(building)  # another process was faster
    return target


def raw_copy(folder: Path, shorter_side: int) -> Path:
    """Write the train split as raw pixels, if that has not been done yet.

    Args:
        folder: The dataset folder; its train split has JPEGs.
        shorter_side: The maximum length of an image's shorter side, in pixels.

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
    beton = open_split(folder, manifest, "train")
    paths = [f"{label:04d}/{index:07d}.jpg" for index, label in enumerate(beton.labels)]
    source = SampleSource(
        dataset=f"{manifest.dataset}-raw{shorter_side}",
        classes=manifest.classes,
        splits={"train": Files(root, paths, beton.labels)},
        split_rule="the train split only",
    )
    build_dataset(source, target, Encoding("raw", shorter_side=shorter_side))
    return target
