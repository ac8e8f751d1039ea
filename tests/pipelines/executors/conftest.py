"""Datasets of images of every size, raw and as JPEGs, for the tests of executors."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pipelines import folders

SIZES = [
    (1, 1),
    (1, 40),
    (37, 1),
    (2, 3),
    (48, 64),
    (64, 48),
    (33, 33),
    (32, 32),
    (200, 90),
    (61, 250),
    (120, 121),
    (40, 40),
]


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folders.write_folder(
        tmp_path_factory.mktemp("raw"), [folders.noise(*size, k) for k, size in enumerate(SIZES)]
    )


@pytest.fixture(scope="session")
def jpegs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """JPEGs with full chroma, because decoders enlarge chroma differently. Some are grayscale or
    progressive. The sizes differ."""
    images: list[bytes] = []
    for k, size in enumerate(SIZES):
        pixels = folders.smooth(*size, k)
        images.append(
            folders.jpeg(
                pixels[..., 0] if k % 4 == 1 else pixels, subsampling=0, progressive=k % 4 == 2
            )
        )
    return folders.write_folder(tmp_path_factory.mktemp("jpeg"), images)
