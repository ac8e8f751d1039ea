"""The bytes of decoded pixels are limited for large photos."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from slipform.pipelines.decoding.decoder import images_at_once
from slipform.pipelines.loader import Loader
from slipform.pipelines.machine import peak_resident_bytes, resident_now
from slipform.pipelines.plan.augmentation import Augmentation
from tests.pipelines import folders

SPEC = Augmentation(image_size=64, crop="none")  # the whole of each image is decoded


def test_how_many_images_a_thread_decodes_at_once() -> None:
    def count(height: int, width: int) -> int:
        sides = np.array([[20, 20], [height, width]], np.int32)
        return images_at_once(sides[:, 0], sides[:, 1])

    assert count(500, 375) == count(1000, 1000) == 32
    assert count(3000, 4000) == 2
    assert count(30_000, 20_000) == 1
    assert images_at_once(np.zeros(0, np.int32), np.zeros(0, np.int32)) == 32


def _peak(
    folder: Path, small: Path, augment: Augmentation, batch_size: int, executor: str
) -> tuple[int, list[float]]:
    """The peak memory of an epoch of the photos, minus the memory after an epoch of small images;
    and the means of the images."""
    means = []
    for data in (small, folder):
        before = resident_now()
        settings = {"augment": augment, "executor": executor, "batch_size": batch_size}
        with Loader(data, **settings, threads=2) as loader:
            means += [float(image.mean()) for batch in loader for image in batch.images]
    return peak_resident_bytes() - before, means


def _taken(folder: Path, *args: object) -> tuple[int, list[float]]:
    """`_peak` in a process of its own, on the photos of 3000 x 4000 px in a folder."""
    little = folders.jpeg(folders.smooth(40, 30))
    small = folders.write_folder(folder.parent / "small", [little] * 40)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(_peak, folder, small, *args).result()


@pytest.mark.slow
def test_twelve_megapixels_do_not_take_gigabytes(tmp_path: Path) -> None:
    """40 photos of 36 MB decoded, three threads: at most two photos in each. 32 in each took 2.1
    GiB."""
    photo = folders.jpeg(folders.smooth(3000, 4000), quality=60)
    photos = folders.write_folder(tmp_path / "photos", [photo] * 40)
    taken, means = _taken(photos, SPEC, 40, "host")
    assert taken < 700 << 20, f"{taken / 2**20:.0f} MiB"
    assert np.ptp(means[40:]) < 1e-4


@pytest.mark.slow
def test_a_batch_of_twelve_megapixels_is_several_runs_of_dali(tmp_path: Path) -> None:
    """40 photos of 36 MB decoded. A single run for all of them, and one more ahead, took
    gigabytes."""
    photo = folders.jpeg(folders.smooth(3000, 4000), quality=60)
    photos = folders.write_folder(tmp_path / "photos", [photo] * 80)
    taken, means = _taken(photos, SPEC, 40, "dali")
    assert taken < 2000 << 20, f"{taken / 2**20:.0f} MiB"
    assert np.ptp(means[40:]) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(("progressive", "limit"), [(False, 150), (True, 600)])
def test_fifty_megapixels_take_no_more_memory_than_their_crop(
    progressive: bool, limit: int, tmp_path: Path
) -> None:
    """Each photo would take 150 MB in full. A box has at most 3 decoded pixels per output pixel on
    each axis, or an eighth of the photo. libjpeg keeps all coefficients of a progressive photo, 16
    bits each, in each of the three threads: 150 MB."""
    photo = folders.jpeg(folders.smooth(6250, 8000), quality=60, progressive=progressive)
    photos = folders.write_folder(tmp_path / "photos", [photo] * 16)
    crops = Augmentation(image_size=224, crop="random_resized")
    taken, means = _taken(photos, crops, 8, "host")
    assert taken < limit << 20, f"{taken / 2**20:.0f} MiB"
    assert np.std(means[-16:]) < 1
