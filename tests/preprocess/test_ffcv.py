"""Stock ffcv reads Slipform's betons, and Slipform reads those of stock ffcv."""

from __future__ import annotations

import importlib.util
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from slipform.pipelines.beton import Beton
from slipform.pipelines.beton_format import JPG, RAW
from slipform.pipelines.manifest import read_manifest
from slipform.preprocess.build import build_dataset
from slipform.preprocess.shard_record import Shard
from slipform.preprocess.shards import write_shard
from slipform.preprocess.source import Arrays, Generated, SampleSource
from tests.pipelines import folders
from tests.train.run.labeled import dataset_of

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ffcv") is None, reason="ffcv is not installed"
)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    shapes: Path,
    shapes_raw: Path,
) -> Path:
    """Files of both, and what ffcv reads from those that the selected tests load."""
    selected = [item for item in request.session.items if item.path == request.path]
    calls = [item.callspec.params for item in selected if hasattr(item, "callspec")]
    loaded = {f"{one['name']}-{one['os_cache']}" for one in calls if "os_cache" in one}
    folder = tmp_path_factory.mktemp("ffcv")
    (folder / "ours").mkdir()
    shutil.copy(shapes / "train.beton", folder / "ours/train.beton")
    shutil.copy(shapes_raw / "train.beton", folder / "ours/raw.beton")
    shutil.copy(_large(folder) / "train.beton", folder / "ours/large.beton")
    several = dataset_of(folder / "labels", "multi")  # its label table is not ffcv's matter
    shutil.copy(several / "train.beton", folder / "ours/several.beton")
    _write_shards(shapes_raw, folder)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    script = Path(__file__).with_name("ffcv_both_ways.py")
    done = subprocess.run(
        [sys.executable, str(script), str(folder), *sorted(loaded)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def _large(folder: Path) -> Path:
    """Large JPEGs, after which prep stores entry points."""
    ramp = np.add.outer(np.arange(1000), np.arange(1200))[..., None] / np.array([9, 11, 13])
    files = [folders.jpeg((ramp + 20 * k).astype(np.uint8), 80) for k in range(5)]
    samples = Generated(files.__getitem__, np.arange(5) % 2, "made")
    build_dataset(SampleSource("made", ["a", "b"], {"train": samples}, ""), folder / "large")
    assert Beton(folder / "large/train.beton").bytes_after(0)[:8].tobytes() == b"SFENTRY1"  # type: ignore[index]
    return folder / "large"


def _write_shards(whole: Path, folder: Path) -> None:
    """The raw images of `whole`, in two shards of each split."""
    beton = Beton(whole / "train.beton")
    images = np.stack([beton.raw(index) for index in range(len(beton))])
    samples = Arrays(images, beton.labels, "made")
    source = SampleSource("made", read_manifest(whole).classes, {"train": samples}, "")
    for number in (1, 2):
        shard = Shard(number, 2)
        write_shard(source, folder / "shards", shard)
        os.rename(folder / "shards" / shard.file("train"), folder / f"ours/shard{number}.beton")


@pytest.mark.parametrize("name", ["train", "large", "raw", "several", "shard1", "shard2"])
def test_stock_reader_sees_our_tables(folder: Path, name: str) -> None:
    ours = Beton(folder / f"ours/{name}.beton")
    metadata, table = (
        np.load(folder / f"{name}-metadata.npy"),
        np.load(folder / f"{name}-table.npy"),
    )
    np.testing.assert_array_equal(metadata["label"], ours.labels)
    np.testing.assert_array_equal(metadata["image"]["width"], ours.widths)
    np.testing.assert_array_equal(metadata["image"]["height"], ours.heights)
    np.testing.assert_array_equal(metadata["image"]["mode"], ours.modes)
    np.testing.assert_array_equal(table["ptr"], ours.offsets)
    np.testing.assert_array_equal(table["size"], ours.sizes)


@pytest.mark.parametrize(
    ("name", "os_cache"),
    [
        ("raw", True),
        pytest.param("raw", False, marks=pytest.mark.slow),
        *(pytest.param(x, True, marks=pytest.mark.slow) for x in ("several", "shard1", "shard2")),
    ],
)
def test_stock_loader_gives_our_raw_pixels(folder: Path, os_cache: bool, name: str) -> None:
    ours = Beton(folder / f"ours/{name}.beton")
    np.testing.assert_array_equal(
        np.load(folder / f"{name}-{os_cache}-images.npy"),
        np.stack([ours.raw(i) for i in range(len(ours))]),
    )
    np.testing.assert_array_equal(np.load(folder / f"{name}-{os_cache}-labels.npy"), ours.labels)


@pytest.mark.parametrize(
    ("name", "os_cache"),
    [
        ("train", True),
        *(pytest.param(*x, marks=pytest.mark.slow) for x in (("train", False), ("large", True))),
    ],
)
def test_stock_loader_decodes_our_jpegs(folder: Path, os_cache: bool, name: str) -> None:
    ours = Beton(folder / f"ours/{name}.beton")
    images = np.load(folder / f"{name}-{os_cache}-images.npy")
    np.testing.assert_array_equal(np.load(folder / f"{name}-{os_cache}-labels.npy"), ours.labels)
    for index in range(len(ours)):
        pixels = np.asarray(Image.open(io.BytesIO(ours.bytes_of(index).tobytes())).convert("RGB"))
        side = min(pixels.shape[:2])
        top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
        expected = cv2.resize(
            pixels[top : top + side, left : left + side], (32, 32), interpolation=cv2.INTER_AREA
        )
        # ffcv uses libjpeg's fast, coarse chroma. Another image would differ by 30 levels.
        assert np.abs(images[index].astype(int) - expected).mean() < 6, index


@pytest.mark.parametrize("mode", ["jpg", "raw"])
def test_our_reader_reads_stock_files(folder: Path, mode: str) -> None:
    beton = Beton(folder / f"stock-{mode}.beton")
    assert len(beton) == 50
    np.testing.assert_array_equal(beton.labels, np.arange(50) % 5)
    assert set(beton.modes) == {JPG if mode == "jpg" else RAW}
    for index in range(50):
        generator = np.random.default_rng(index)
        ramp = np.add.outer(np.arange(20 + index), np.arange(30 + index % 7))[
            ..., None
        ] * 2 + generator.integers(0, 90, 3)
        expected = (ramp % 256).astype(np.uint8)
        if mode == "raw":
            np.testing.assert_array_equal(beton.raw(index), expected)
        else:
            data = cv2.imencode(".jpg", expected[..., ::-1].copy(), [cv2.IMWRITE_JPEG_QUALITY, 90])[
                1
            ].tobytes()
            assert beton.bytes_of(index).tobytes() == data
        beton.check_crc32(index)  # there is no CRC file, and no error
