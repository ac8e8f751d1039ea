"""Small dataset folders from arrays, by a minimal writer of pipelines/beton_format.py.

In: images (uint8 [H, W, 3] or JPEG bytes) and labels. Out: a folder with train.beton, its CRCs and
dataset.json. The writer of preprocess/ is not used and has its own tests.
"""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from slipform.pipelines.beton_format import DESCRIPTOR, HEADER, IMAGE, JPG, RAW, TABLE_ROW
from slipform.pipelines.manifest import Manifest, SplitInfo, write_manifest


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """uint8 [height, width, 3] of noise."""
    return np.random.default_rng([seed, height, width]).integers(
        0, 256, (height, width, 3), np.uint8
    )


def smooth(height: int, width: int, seed: int = 0) -> np.ndarray:
    """uint8 [height, width, 3] of a few waves, which JPEG changes little."""
    y, x = np.mgrid[:height, :width] / 17.0
    phases = np.random.default_rng(seed).uniform(0, 6, 3)
    return np.stack(
        [127 + 100 * np.sin(x * (1 + k / 3) + y * (1.3 - k / 4) + phases[k]) for k in range(3)], -1
    ).astype(np.uint8)


def jpeg(image: np.ndarray, quality: int = 92, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality, **options)
    return buffer.getvalue()


def write_beton(
    path: Path, images: list[Any], labels: list[int], sizes: list[tuple[int, int]] | None = None
) -> None:
    """images: arrays (stored raw) or bytes (stored as JPEG). sizes: (height, width) if the bytes
    are not a JPEG."""
    metadata = np.zeros(len(images), np.dtype([("image", IMAGE), ("label", "<i8")], align=True))
    table = np.zeros(len(images), TABLE_ROW)
    position = HEADER.itemsize + 2 * DESCRIPTOR.itemsize + metadata.nbytes
    chunks, crcs = [], []
    for i, image in enumerate(images):
        data = image.tobytes() if isinstance(image, np.ndarray) else image
        if sizes:
            height, width = sizes[i]
        elif isinstance(image, np.ndarray):
            height, width = image.shape[:2]
        else:
            width, height = Image.open(io.BytesIO(image)).size
        metadata[i] = (
            (RAW if isinstance(image, np.ndarray) else JPG, width, height, position),
            labels[i],
        )
        table[i] = (i, position, len(data))
        chunks.append(data)
        crcs.append(zlib.crc32(data))
        position += len(data)
    header = np.zeros(1, HEADER)
    header[0] = (2, 2, 1 << 21, len(images), position)
    descriptors = np.zeros(2, DESCRIPTOR)
    descriptors["type_id"] = (2, 1)
    path.write_bytes(
        b"".join(
            [header.tobytes(), descriptors.tobytes(), metadata.tobytes(), *chunks, table.tobytes()]
        )
    )
    np.save(path.with_suffix(".crc32.npy"), np.array(crcs, np.uint32))


def write_folder(
    folder: Path, images: list[Any], labels: list[int] | None = None, sizes: Any = None
) -> Path:
    """A dataset folder with one split, train."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = [i % 3 for i in range(len(images))] if labels is None else labels
    write_beton(folder / "train.beton", images, labels, sizes)
    split = SplitInfo(
        file="train.beton",
        num_samples=len(images),
        counts=np.bincount(np.minimum(labels, 2), minlength=3).tolist() if labels else [0, 0, 0],
        bytes=(folder / "train.beton").stat().st_size,
        sha256="",
        modes={"jpg": 0, "raw": 0},
        min_height=1,
        min_width=1,
        max_height=1,
        max_width=1,
    )
    manifest = Manifest(
        dataset="test",
        classes=["a", "b", "c"],
        splits={"train": split},
        mean=[0.4, 0.5, 0.6],
        std=[0.2, 0.25, 0.3],
    )
    write_manifest(folder, manifest)
    return folder
