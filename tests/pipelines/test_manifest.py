"""A manifest that contradicts itself or the files beside it is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from slipform.pipelines.beton import Beton
from slipform.pipelines.beton_format import DESCRIPTOR, HEADER
from slipform.pipelines.dataset import open_dataset
from slipform.pipelines.errors import ConfigError, DatasetError, SampleError
from slipform.pipelines.limits import MAX_PREFETCH, MAX_SEED, MAX_THREADS
from slipform.pipelines.loader import Loader
from slipform.pipelines.manifest import FILE_NAME, read_manifest
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.preprocess.cli import main as prep
from slipform.preprocess.writer import _METADATA
from tests.pipelines import folders

SPEC = Augmentation(image_size=16, resize=18)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = [folders.jpeg(folders.smooth(30, 20 + k, seed=k)) for k in range(12)]
    return Path(folders.write_folder(tmp_path / "set", images))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("classes", ["a", "a", "b"]),
        ("classes", ["a", "b"]),
        ("classes", [str(number) for number in range(200_000)]),
        ("classes", ["\ud800", "b", "c"]),
        ("mean", [float("nan"), 0.5, 0.5]),
        ("mean", [1e300, 0.5, 0.5]),
        ("std", [-0.1, 0.2, 0.2]),
        ("counts", [4, 4]),
        ("counts", [-1, 9, 4]),
        ("counts", [4, 4, 3]),
    ],
)
def test_a_manifest_that_contradicts_itself(folder: Path, name: str, value: Any) -> None:
    content = json.loads((folder / FILE_NAME).read_text())
    (content["splits"]["train"] if name == "counts" else content)[name] = value
    (folder / FILE_NAME).write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=r"dataset\.json is damaged \(.+\)"):
        read_manifest(folder)


@pytest.mark.parametrize(
    "swapped",
    [
        pytest.param("train.crc32.npy", marks=pytest.mark.slow),
        *("train.beton", "both", "labels", "no table"),
    ],
)
def test_files_of_another_prep_are_refused(shapes: Path, tmp_path: Path, swapped: str) -> None:
    """No sample is damaged, and classes, counts and sizes are the same."""
    folder = tmp_path / "set"
    shutil.copytree(shapes, folder)
    beton = Beton(folder / "train.beton")
    order = np.argsort(beton.labels == 0, kind="stable")  # the images of the first class at the end
    if swapped == "labels":
        content = bytearray((folder / "train.beton").read_bytes())
        first, last = order[0], order[-1]
        start = HEADER.itemsize + 2 * DESCRIPTOR.itemsize
        places = [
            start + int(k) * _METADATA.itemsize + _METADATA.fields["label"][1]
            for k in (first, last)
        ]
        a, b = (content[at : at + 8] for at in places)
        content[places[0] : places[0] + 8], content[places[1] : places[1] + 8] = b, a
        (folder / "train.beton").write_bytes(content)
        assert np.array_equal(np.sort(Beton(folder / "train.beton").labels), np.sort(beton.labels))
    elif swapped == "no table":
        (folder / "train.crc32.npy").unlink()
    else:
        for name in ("train.beton", "train.crc32.npy"):
            if swapped in (name, "both"):
                shutil.copy(_other_shapes(tmp_path) / name, folder / name)
    words = r"not the file that|CRC-32"
    for executor in ("host", "resident"):
        with pytest.raises((DatasetError, SampleError), match=words):
            _first_batch(folder, executor)
    with pytest.raises((DatasetError, SampleError), match=words):
        open_dataset(folder).image("train", 0)


def _first_batch(folder: Path, executor: str) -> None:
    with Loader(folder, augment=SPEC, batch_size=4, executor=executor, threads=1) as loader:
        next(iter(loader))


def _other_shapes(folder: Path) -> Path:
    """The counts are the same, and the images differ."""
    sizes = ["--num-train", "240", "--num-val", "60", "--num-test", "60", "--seed", "5"]
    if not (folder / "other").exists():
        done = CliRunner().invoke(prep, ["shapes", "--out", str(folder / "other"), *sizes])
        assert done.exit_code == 0, done.output
    return folder / "other"


@pytest.mark.parametrize(
    ("name", "most"), [("seed", MAX_SEED), ("threads", MAX_THREADS), ("prefetch", MAX_PREFETCH)]
)
def test_numbers_that_are_too_large(folder: Path, name: str, most: int) -> None:
    with pytest.raises(ConfigError, match=rf"{name} = {most + 1}.*at most"):
        Loader(folder, augment=SPEC, batch_size=4, **{name: most + 1})  # type: ignore[arg-type]
    if name == "seed":
        with Loader(folder, augment=SPEC, batch_size=4, seed=most, executor="host") as loader:
            assert len(next(iter(loader))) == 4


@pytest.mark.parametrize(
    "arguments",
    [
        {"device": "tpu"},
        {"device": "meta"},
        {"device": "cuda:99"},
        {"dtype": torch.int8},
        {"dtype": "float32"},
    ],
)
def test_devices_and_types_that_do_not_exist(folder: Path, arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(arguments))):
        Loader(folder, augment=SPEC, batch_size=4, **arguments)


@pytest.mark.parametrize(
    ("epoch", "seen"), [(10**30, 0), (-1, 0), (0, -4), (0, 13), ("x", 0), (0, None), (1.5, 0)]
)
def test_positions_that_do_not_exist(folder: Path, epoch: Any, seen: Any) -> None:
    with Loader(folder, augment=SPEC, batch_size=4, executor="host", threads=1) as loader:
        before = loader.state_dict()
        with pytest.raises(ConfigError, match="epoch"):
            loader.load_state_dict({**before, "epoch": epoch, "seen": seen})
        if isinstance(epoch, int) and seen == 0:
            with pytest.raises(ConfigError, match="epoch"):
                loader.set_epoch(epoch)
        assert loader.state_dict() == before
        assert len(list(loader)) == 3
