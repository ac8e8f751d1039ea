"""Folders of images, one folder per class.

In: a folder. Out: its class names, sorted, and `Files` in a fixed order: by class, then by name.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from slipform.pipelines.decoding.image_file import ENDINGS
from slipform.pipelines.errors import DatasetError
from slipform.preprocess.source import Files


def image_folders(root: Path) -> list[str]:
    """Names of the folders in `root`, sorted, without hidden ones. Raises DatasetError where there
    is none."""
    names = sorted(
        entry.name
        for entry in os.scandir(root)
        if entry.is_dir() and not entry.name.startswith(".")
    )
    if not names:
        raise DatasetError(f"{root} holds no folders; expected one folder of images per class.")
    return names


def list_images(root: Path, classes: Sequence[str], deep: bool = True) -> Files:
    """Images in the folders `classes` of `root`, at any depth or right in them; not hidden files,
    not other suffixes."""
    paths: list[str] = []
    counts: list[int] = []
    for name in classes:
        found = sorted(
            os.path.relpath(os.path.join(folder, file), root)
            for folder, _, files in os.walk(root / name)
            for file in files
            if (deep or folder == str(root / name))
            and file.lower().endswith(ENDINGS)
            and not file.startswith(".")
        )
        paths += found
        counts.append(len(found))
    if not paths:
        raise DatasetError(f"{root} holds no images in its folders ({', '.join(ENDINGS)}).")
    return Files(root, paths, np.repeat(np.arange(len(classes), dtype=np.int64), counts))


def locate(source: Path, name: str, depth: int = 3) -> Path | None:
    """The entry `name` in `source` or, first the nearest, in the folders below it; archives and
    torchvision add such folders."""
    level = [source]
    for _ in range(depth + 1):
        for folder in level:
            if (folder / name).exists():
                return folder / name
        level = sorted(
            Path(entry.path)
            for folder in level
            for entry in os.scandir(folder)
            if entry.is_dir(follow_symlinks=False)
        )
        if len(level) > 2000:  # a folder of classes, not of archives
            return None
    return None
