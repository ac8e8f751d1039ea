"""The Loader: positions that mean the same everywhere, every sample counted once, damaged samples,
small datasets, errors."""

from __future__ import annotations

import shutil
import threading
import time
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from slipform.pipelines.beton import Beton, crc32_path
from slipform.pipelines.errors import ConfigError, DatasetError, SampleError
from slipform.pipelines.executors import NAMES
from slipform.pipelines.loader import Loader
from slipform.pipelines.manifest import read_manifest
from slipform.pipelines.plan.augmentation import Augmentation, ColorJitter

SPEC = Augmentation(
    image_size=24,
    crop="random_resized",
    flip="horizontal",
    color_jitter=ColorJitter(0.2, 0.2, 0.2),
    erase=0.3,
)
LEVEL = 255 / 2


def _loader(
    folder: Path, executor: str = "resident", batch_size: int = 20, **options: Any
) -> Loader:
    return Loader(
        folder,
        options.pop("split", "train"),
        options.pop("augment", SPEC),
        batch_size=batch_size,
        **{"executor": executor, "threads": 2, "seed": 5} | options,
    )


def _epoch(loader: Loader) -> dict[int, tuple[int, np.ndarray]]:
    """index -> (label, pixels), of what is left of an epoch; no index twice."""
    found: dict[int, tuple[int, np.ndarray]] = {}
    for batch in loader:
        for index, label, image in zip(
            batch.indices.tolist(), batch.labels.tolist(), batch.images.numpy(), strict=True
        ):
            if index >= 0:
                assert index not in found
                found[index] = (label, image.copy())
    return found


def _assert_same(
    got: dict[int, tuple[int, np.ndarray]], want: dict[int, tuple[int, np.ndarray]]
) -> None:
    assert list(got) == list(want)
    for index, (label, image) in want.items():
        assert got[index][0] == label
        off = np.abs(got[index][1] - image) * LEVEL
        assert off.mean() <= 1
        assert (off <= 4).mean() >= 0.99


@pytest.fixture(scope="module")
def whole(shapes: Path) -> list[dict[int, tuple[int, np.ndarray]]]:
    """Two epochs without interruption."""
    with _loader(shapes) as loader:
        return [_epoch(loader), _epoch(loader)]


def test_an_epoch_is_every_sample_once_and_the_next_another_order(shapes: Path, whole: Any) -> None:
    first, second = whole
    assert sorted(first) == sorted(second) == list(range(240))
    assert list(first) != list(second)
    labels = Beton(shapes / "train.beton").labels
    assert all(label == labels[index] for index, (label, _) in first.items())
    assert not np.array_equal(first[0][1], second[0][1])


def test_a_position_after_every_batch_goes_on_with_the_same_samples(
    shapes: Path, whole: Any
) -> None:
    """Saved with one executor, loaded into another, at each of the epoch's twelve batches."""
    with _loader(shapes) as saver:
        done: list[int] = []
        others = {name: _loader(shapes, name) for name in NAMES}
        for k, batch in enumerate(saver):
            done += batch.indices.tolist()
            state = saver.state_dict()
            assert all(isinstance(value, (int, str)) for value in state.values())
            other = others[NAMES[k % 3]]
            other.load_state_dict(state)
            rest = _epoch(other)
            if state["seen"]:
                _assert_same(
                    rest, {index: value for index, value in whole[0].items() if index not in done}
                )
            else:
                assert state["epoch"] == 1
                _assert_same(rest, whole[1])
        for other in others.values():
            other.close()


@pytest.mark.parametrize("world_size", [2, 4])
def test_a_position_loads_into_any_number_of_processes(
    shapes: Path, whole: Any, world_size: int
) -> None:
    """And batch size: together they see what one process would have seen."""
    with _loader(shapes) as saver:
        steps = iter(saver)
        seen = [index for _ in range(3) for index in next(steps).indices.tolist()]
        state = saver.state_dict()
    parts = []
    for rank, executor in zip(
        range(world_size), ("host", "resident", "dali", "host"), strict=False
    ):
        with _loader(
            shapes, executor, 180 // world_size // 5, rank=rank, world_size=world_size
        ) as loader:
            loader.load_state_dict(state)
            parts.append(_epoch(loader))
            assert (loader.epoch, loader.seen) == (1, 0)
    together = {index: value for part in parts for index, value in part.items()}
    assert sum(map(len, parts)) == len(together) == 180
    want = {index: value for index, value in whole[0].items() if index not in seen}
    _assert_same({index: together[index] for index in want}, want)


def test_breaking_off_and_going_on(shapes: Path, whole: Any) -> None:
    """The next loop over the same loader takes the rest of the epoch."""
    with _loader(shapes, "host") as loader:
        found: dict[int, int] = {}
        for k, batch in enumerate(loader):
            found |= dict(zip(batch.indices.tolist(), batch.labels.tolist(), strict=True))
            if k == 3:
                break
        assert (loader.epoch, loader.seen) == (0, 80)
        rest = _epoch(loader)
        assert sorted([*found, *rest]) == list(range(240))
        _assert_same(_epoch(loader), whole[1])


def test_going_back_gives_the_same_bytes(shapes: Path) -> None:
    for executor in NAMES:
        with _loader(shapes, executor) as loader:
            state = loader.state_dict()
            first = [batch.images.clone() for batch in loader]
            loader.load_state_dict(state)
            for batch, images in zip(loader, first, strict=True):
                assert torch.equal(batch.images, images)


def test_seeds_differ(shapes: Path) -> None:
    with _loader(shapes, seed=5) as a, _loader(shapes, seed=6) as b:
        assert next(iter(a)).indices.tolist() != next(iter(b)).indices.tolist()


@pytest.mark.parametrize("executor", NAMES)
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_counts_each_image_once(shapes: Path, executor: str, world_size: int) -> None:
    """60 images in batches of 16: padded with labels -100 and indices -1, over any number of
    processes."""
    counted, batches = [], []
    for rank in range(world_size):
        with _loader(
            shapes, executor, 16, split="val", training=False, rank=rank, world_size=world_size
        ) as loader:
            batches += [
                len(list(loader)),
                len(list(loader)),
            ]  # an epoch of evaluation is like the one before
            for batch in loader:
                assert len(batch) == len(batch.images) == 16
                assert ((batch.labels == -100) == (batch.indices == -1)).all()
                counted += batch.indices[batch.indices >= 0].tolist()
    assert sorted(counted) == list(range(60))
    assert len(set(batches)) == 1


@pytest.mark.parametrize("executor", NAMES)
@pytest.mark.parametrize("training", [True, False])
def test_no_samples_and_one(
    folders: ModuleType, tmp_path: Path, executor: str, training: bool
) -> None:
    with _loader(
        folders.write_folder(tmp_path / "none", []), executor, 4, training=training
    ) as loader:
        assert len(loader) == 0
        assert list(loader) == list(loader) == []
    one = folders.write_folder(tmp_path / "one", [folders.jpeg(folders.smooth(30, 20))], [2])
    with _loader(one, executor, 1 if training else 4, training=training) as loader:
        for _ in range(3):
            (batch,) = list(loader)
            assert batch.labels[batch.labels >= 0].tolist() == [2]


def test_a_batch_larger_than_the_dataset(shapes: Path) -> None:
    with pytest.raises(ConfigError, match=r"Set train\.batch_size to 240 or less"):
        _loader(shapes, batch_size=241)
    with _loader(shapes, batch_size=500, training=False) as loader:
        (batch,) = list(loader)
        assert (batch.labels >= 0).sum() == 240


def _copy(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to))


def _damage(folder: Path, index: int, *, matching_crc: bool) -> int:
    """Turn a sample's middle bytes over; with a matching CRC only the decoder can notice. Returns
    its class."""
    beton = Beton(folder / "train.beton")
    start, size, label = (
        int(beton.offsets[index]),
        int(beton.sizes[index]),
        int(beton.labels[index]),
    )
    with open(folder / "train.beton", "r+b") as file:
        file.seek(start if matching_crc else start + size // 2)
        file.write(bytes(20) if matching_crc else bytes([255 ^ beton.bytes_of(index)[size // 2]]))
    if matching_crc:
        crcs = np.load(crc32_path(folder / "train.beton"))
        crcs[index] = zlib.crc32(Beton(folder / "train.beton").bytes_of(index))
        np.save(crc32_path(folder / "train.beton"), crcs)
    return label


def _read_an_epoch(folder: Path, executor: str) -> None:
    with _loader(folder, executor) as loader:
        _epoch(loader)


@pytest.mark.parametrize("executor", NAMES)
@pytest.mark.parametrize("kind", ["a turned byte", "no JPEG"])
def test_a_damaged_sample_is_named_at_once(
    shapes: Path, tmp_path: Path, executor: str, kind: str
) -> None:
    folder = _copy(shapes, tmp_path / "damaged")
    label = _damage(folder, 77, matching_crc=kind == "no JPEG")
    began = time.perf_counter()
    with pytest.raises(SampleError, match="sample 77 ") as caught:
        _read_an_epoch(folder, executor)
    assert (caught.value.index, caught.value.label) == (77, label)
    assert "prep verify" in str(caught.value)
    assert time.perf_counter() - began < 3, "a second, on a machine with nothing else to do"


def _note(loader: Loader, seen: list[int]) -> None:
    for batch in loader:
        seen += batch.indices.tolist()


@pytest.mark.parametrize("executor", ["dali", "host"])  # resident reads all before the first batch
def test_after_a_damaged_sample_the_position_is_before_its_batch(
    shapes: Path, tmp_path: Path, executor: str
) -> None:
    """Asked again it raises again; a loader that skips goes on from there, and no other sample is
    lost."""
    folder = _copy(shapes, tmp_path / "damaged")
    _damage(folder, 77, matching_crc=True)
    seen: list[int] = []
    with _loader(folder, executor, 16) as loader:
        for _ in range(2):
            with pytest.raises(SampleError, match="sample 77 "):
                _note(loader, seen)
        position = loader.state_dict()
    assert 77 not in seen
    assert position["seen"] == len(seen) < 240
    with _loader(folder, executor, 16, on_bad="skip") as loader:
        loader.load_state_dict(position)
        _note(loader, seen)
    assert sorted(seen) == list(range(240))


@pytest.mark.parametrize("executor", NAMES)
@pytest.mark.parametrize("kind", ["a turned byte", "no JPEG"])
@pytest.mark.parametrize(
    "batch_size", [20, 120]
)  # a part of a batch that one thread takes, and several
def test_a_damaged_sample_is_skipped_and_counted(
    shapes: Path, tmp_path: Path, whole: Any, executor: str, kind: str, batch_size: int
) -> None:
    """Two of them: their labels are masked, every other sample is as it was, and each epoch's
    misses are counted."""
    folder = _copy(shapes, tmp_path / "damaged")
    for index in (0, 77):
        _damage(folder, index, matching_crc=kind == "no JPEG")
    with _loader(folder, executor, batch_size, on_bad="skip") as loader:
        for epoch in range(2):
            got = _epoch(loader)
            assert [index for index, (label, _) in got.items() if label == -100] == [
                i for i in got if i in (0, 77)
            ]
            good = {index: value for index, value in got.items() if index not in (0, 77)}
            _assert_same(
                good, {index: value for index, value in whole[epoch].items() if index in good}
            )
            assert loader.num_bad == 2 * (epoch + 1) == loader.stats()["num_bad"]
        assert all(np.isfinite(image).all() for _, image in got.values())


@pytest.mark.parametrize("executor", NAMES)
def test_padding_is_no_bad_sample(shapes: Path, tmp_path: Path, executor: str) -> None:
    """Sample 0 stands in for padding: where it is damaged it counts once."""
    folder = _copy(shapes, tmp_path / "damaged")
    _damage(folder, 0, matching_crc=False)
    with _loader(folder, executor, 100, training=False, on_bad="skip") as loader:
        assert len(_epoch(loader)) == 240
        assert loader.num_bad == 1


@pytest.mark.parametrize("executor", NAMES)
def test_closing_ends_the_threads(shapes: Path, executor: str) -> None:
    before = set(threading.enumerate())
    loader = _loader(shapes, executor)
    next(iter(loader))
    loader.close()
    loader.close()
    assert set(threading.enumerate()) <= before


def test_errors_say_what_to_do(shapes: Path, shapes_raw: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='Did you mean "resident"'):
        _loader(shapes, "residant")
    with pytest.raises(DatasetError, match="prep"):
        _loader(tmp_path)
    with pytest.raises(DatasetError, match="is no folder"):
        _loader(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match='Did you mean "train"'):
        _loader(shapes, split="trian")
    with pytest.raises(ConfigError, match="on_bad"):
        _loader(shapes, on_bad="ignore")
    with _loader(shapes) as loader, _loader(shapes, split="val") as other:
        with pytest.raises(ConfigError, match="num_samples = 60"):
            loader.load_state_dict(other.state_dict())
        with pytest.raises(ConfigError, match="seed = 6"):
            loader.load_state_dict(loader.state_dict() | {"seed": 6})


def test_auto_takes_what_fits(shapes: Path) -> None:
    with _loader(shapes, "auto") as loader:
        assert loader.executor_name == "resident"
        assert loader.num_samples == read_manifest(shapes).split("train").num_samples
