"""The Loader: positions, epochs with every sample once, and errors."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slipform.pipelines.beton import Beton
from slipform.pipelines.errors import ConfigError, DatasetError
from slipform.pipelines.loader import Loader
from slipform.pipelines.manifest import read_manifest
from tests.pipelines import folders
from tests.pipelines.epochs import ON_CPU as NAMES
from tests.pipelines.epochs import Epoch, assert_same, open_loader, read_epoch


@pytest.fixture(scope="module")
def whole(shapes: Path) -> list[Epoch]:
    """Two epochs without interruption."""
    with open_loader(shapes) as loader:
        return [read_epoch(loader), read_epoch(loader)]


def test_an_epoch_is_every_sample_once_and_the_next_another_order(shapes: Path, whole: Any) -> None:
    first, second = whole
    assert sorted(first) == sorted(second) == list(range(240))
    assert list(first) != list(second)
    labels = Beton(shapes / "train.beton").labels
    assert all(label == labels[index] for index, (label, _) in first.items())
    assert not np.array_equal(first[0][1], second[0][1])


def test_a_position_after_every_batch_continues_with_the_same_samples(
    shapes: Path, whole: Any
) -> None:
    """The position is saved with one executor and loaded with another, at each of the twelve
    batches."""
    with open_loader(shapes) as saver:
        done: list[int] = []
        others = {name: open_loader(shapes, name) for name in NAMES}
        for k, batch in enumerate(saver):
            done += batch.indices.tolist()
            state = saver.state_dict()
            assert all(isinstance(value, (int, str)) for value in state.values())
            other = others[NAMES[k % 3]]
            other.load_state_dict(state)
            rest = read_epoch(other)
            if state["seen"]:
                assert_same(
                    rest, {index: value for index, value in whole[0].items() if index not in done}
                )
            else:
                assert state["epoch"] == 1
                assert_same(rest, whole[1])
        for other in others.values():
            other.close()


@pytest.mark.parametrize("world_size", [2, 4])
def test_a_position_loads_into_any_number_of_processes(
    shapes: Path, whole: Any, world_size: int
) -> None:
    """Also with another batch size: the processes together get the samples of one process."""
    with open_loader(shapes) as saver:
        steps = iter(saver)
        seen = [index for _ in range(3) for index in next(steps).indices.tolist()]
        state = saver.state_dict()
    parts = []
    for rank, executor in zip(
        range(world_size), ("host", "resident", "dali", "host"), strict=False
    ):
        with open_loader(
            shapes, executor, 180 // world_size // 5, rank=rank, world_size=world_size
        ) as loader:
            loader.load_state_dict(state)
            parts.append(read_epoch(loader))
            assert (loader.epoch, loader.seen) == (1, 0)
    together = {index: value for part in parts for index, value in part.items()}
    assert sum(map(len, parts)) == len(together) == 180
    want = {index: value for index, value in whole[0].items() if index not in seen}
    assert_same({index: together[index] for index in want}, want)


@pytest.mark.parametrize("executor", NAMES)
def test_three_processes_divide_each_batch_of_one(shapes: Path, whole: Any, executor: str) -> None:
    """Batches of 20: parts of 6, 7 and 7."""
    done: list[list[list[int]]] = []
    together: Epoch = {}
    for rank in range(3):
        split = {"rank": rank, "world_size": 3, "split_batches": True}
        with open_loader(shapes, executor, 20, **split) as loader:
            assert (loader.batch_size, loader.global_batch_size) == (7 if rank else 6, 20)
            assert (len(loader), loader.epoch_images) == (12, 240)
            together |= read_epoch(loader)
            loader.set_epoch(0)
            done.append([batch.indices.tolist() for batch in loader])
            assert loader.seen == 0
            assert loader.epoch == 1
    order = [index for step in zip(*done, strict=True) for part in step for index in part]
    assert order == list(whole[0])
    assert_same({index: together[index] for index in order}, whole[0])


def test_a_loop_continues_after_break(shapes: Path, whole: Any) -> None:
    """The next loop over the same loader gives the rest of the epoch."""
    with open_loader(shapes, "host") as loader:
        found: dict[int, int] = {}
        for k, batch in enumerate(loader):
            found |= dict(zip(batch.indices.tolist(), batch.labels.tolist(), strict=True))
            if k == 3:
                break
        assert (loader.epoch, loader.seen) == (0, 80)
        rest = read_epoch(loader)
        assert sorted([*found, *rest]) == list(range(240))
        assert_same(read_epoch(loader), whole[1])


def test_going_back_gives_the_same_bytes(shapes: Path) -> None:
    for executor in NAMES:
        with open_loader(shapes, executor) as loader:
            state = loader.state_dict()
            first = [batch.images.clone() for batch in loader]
            loader.load_state_dict(state)
            for batch, images in zip(loader, first, strict=True):
                assert torch.equal(batch.images, images)


def test_seeds_differ(shapes: Path) -> None:
    with open_loader(shapes, seed=5) as a, open_loader(shapes, seed=6) as b:
        assert next(iter(a)).indices.tolist() != next(iter(b)).indices.tolist()


@pytest.mark.parametrize("executor", NAMES)
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_counts_each_image_once(shapes: Path, executor: str, world_size: int) -> None:
    """60 images in batches of 16: padded with labels -100 and indices -1, with any number of
    processes."""
    counted, batches = [], []
    for rank in range(world_size):
        with open_loader(
            shapes, executor, 16, split="val", training=False, rank=rank, world_size=world_size
        ) as loader:
            batches += [
                len(list(loader)),
                len(list(loader)),
            ]  # every epoch of evaluation is the same
            for batch in loader:
                assert len(batch) == len(batch.images) == 16
                assert ((batch.labels == -100) == (batch.indices == -1)).all()
                counted += batch.indices[batch.indices >= 0].tolist()
    assert sorted(counted) == list(range(60))
    assert len(set(batches)) == 1


@pytest.mark.parametrize("executor", NAMES)
@pytest.mark.parametrize("training", [True, False])
def test_no_samples_and_one(tmp_path: Path, executor: str, training: bool) -> None:
    with open_loader(
        folders.write_folder(tmp_path / "none", []), executor, 4, training=training
    ) as loader:
        assert len(loader) == 0
        assert list(loader) == list(loader) == []
    one = folders.write_folder(tmp_path / "one", [folders.jpeg(folders.smooth(30, 20))], [2])
    with open_loader(one, executor, 1 if training else 4, training=training) as loader:
        for _ in range(3):
            (batch,) = list(loader)
            assert batch.labels[batch.labels >= 0].tolist() == [2]


def test_a_batch_larger_than_the_dataset(shapes: Path) -> None:
    with pytest.raises(ConfigError, match=r"Set train\.batch_size to 240 or less"):
        open_loader(shapes, batch_size=241)
    with open_loader(shapes, batch_size=500, training=False) as loader:
        (batch,) = list(loader)
        assert (batch.labels >= 0).sum() == 240


@pytest.mark.parametrize("executor", NAMES)
def test_closing_ends_the_threads(shapes: Path, executor: str, no_collections: None) -> None:
    before = set(threading.enumerate())
    loader = open_loader(shapes, executor)
    next(iter(loader))
    loader.close()
    loader.close()
    assert set(threading.enumerate()) <= before


def test_errors_have_advice(shapes: Path, shapes_raw: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='Did you mean "resident"'):
        open_loader(shapes, "residant")
    with pytest.raises(DatasetError, match="prep"):
        open_loader(tmp_path)
    with pytest.raises(DatasetError, match="is not a folder"):
        open_loader(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match='Did you mean "train"'):
        open_loader(shapes, split="trian")
    with pytest.raises(ConfigError, match="on_bad"):
        open_loader(shapes, on_bad="ignore")
    for name, value, says in (
        ("device", None, 'device = "None": give "cpu"'),
        ("split", None, "split = None: give a text"),
        ("executor", None, "executor = None: give a text"),
        ("training", None, "training = None: give True or False"),
        ("world_size", 2.0, r"world_size = 2\.0: give a whole number"),
    ):
        with pytest.raises(ConfigError, match=says):
            open_loader(shapes, **{name: value})
    with open_loader(shapes) as loader, open_loader(shapes, split="val") as other:
        with pytest.raises(ConfigError, match="num_samples = 60"):
            loader.load_state_dict(other.state_dict())
        with pytest.raises(ConfigError, match="give what state_dict"):
            loader.load_state_dict(None)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="seed = 6"):
            loader.load_state_dict(loader.state_dict() | {"seed": 6})


def test_auto_selects_an_executor_that_fits(shapes: Path) -> None:
    with open_loader(shapes, "auto") as loader:
        assert loader.executor_name == "resident"
        assert loader.num_samples == read_manifest(shapes).split("train").num_samples


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"batch_size": 2.5}, "batch_size = 2.5: give a whole number"),
        ({"batch_size": "8"}, 'batch_size = "8": give a whole number'),
        ({"seed": None}, "seed = None: give a whole number"),
        ({"augment": {"image_size": 64}}, "give an Augmentation, or None"),
    ],
)
def test_arguments_of_a_wrong_type_are_refused(
    shapes: Path, arguments: dict[str, Any], text: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        Loader(shapes, **{"batch_size": 16, **arguments})
    assert text in str(caught.value)


def test_an_epoch_is_a_whole_number(shapes: Path) -> None:
    with Loader(shapes, batch_size=np.int64(16), executor="host", threads=1) as loader:
        with pytest.raises(ConfigError, match='epoch = "a": give a whole number'):
            loader.set_epoch("a")
        loader.set_epoch(np.int32(3))
        assert loader.epoch == 3
