"""How many batches are under way, and which."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slipform.pipelines import executors
from slipform.pipelines.loader import Loader
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.profile import profile_key, profile_path, write_profile


def _under_way(loader: Loader, count: int) -> list[list[int]]:
    """The epochs of the batches under way, after each of the next batches."""
    found: list[list[int]] = []
    while len(found) < count:
        for _ in loader:
            found.append([epoch for (epoch, _), *_ in loader.sequence.ahead._under_way])
            if len(found) == count:
                break
    return found


@pytest.mark.parametrize("executor", ["host", "resident"])
@pytest.mark.parametrize(
    ("options", "first"),
    [
        # Small batches are submitted eight at a time.
        ({}, [15, 14, 13, 12, 11, 10, 9, 8, 15, 14, 13]),
        ({"prefetch": 3}, [2] * 11),
        # 240 images of 24 px are more pixels than a small batch has.
        ({"batch_size": 240}, [1] * 11),
    ],
)
def test_small_batches_are_submitted_together(
    shapes: Path, executor: str, options: dict[str, Any], first: list[int]
) -> None:
    spec = Augmentation(image_size=24, crop="random_resized")
    options = {"batch_size": 4} | options
    with Loader(shapes, "train", spec, executor=executor, threads=1, **options) as loader:
        assert [len(epochs) for epochs in _under_way(loader, len(first))] == first


def test_dali_has_a_queue_of_its_own(shapes: Path) -> None:
    spec = Augmentation(image_size=24, crop="random_resized")
    with Loader(shapes, "train", spec, batch_size=4, executor="dali", threads=1) as loader:
        assert [len(epochs) for epochs in _under_way(loader, 4)] == [1] * 4


def test_dali_has_a_queue_of_its_own_if_auto_chooses_it(
    shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It then has as many batches as `bench tune` found, as in a resumed run, which names it."""
    spec = Augmentation(image_size=24, crop="random_resized")
    found = {"executor": "dali", "threads": 1, "prefetch": 3}
    write_profile(profile_path(), profile_key("jpeg", 24, "cpu"), found)

    def under_way(executor: str) -> tuple[str, list[int]]:
        options: dict[str, Any] = {"executor": executor, "as_tuned": True}
        with Loader(shapes, "train", spec, batch_size=4, **options) as loader:
            return loader.executor_name, [len(epochs) for epochs in _under_way(loader, 4)]

    assert under_way("auto") == ("resident", [15, 14, 13, 12])
    monkeypatch.setattr(executors, "MEMORY_SHARE", 0.0)
    assert under_way("auto") == ("dali", [2] * 4)
    assert under_way("dali") == ("dali", [2] * 4)


def test_no_batch_is_begun_beyond_the_next_epoch(shapes: Path) -> None:
    """Two batches are an epoch: of 16 that may be under way there are at most four."""
    spec = Augmentation(image_size=24, crop="random_resized")
    with Loader(shapes, "train", spec, batch_size=120, threads=1) as loader:
        assert _under_way(loader, 5) == [[0, 1, 1], [1, 1], [1, 2, 2], [2, 2], [2, 3, 3]]
    with Loader(shapes, "train", spec, batch_size=120, threads=1, training=False) as loader:
        assert [len(epochs) for epochs in _under_way_of_evaluation(loader)] == [1, 0]


def _under_way_of_evaluation(loader: Loader) -> list[list[int]]:
    return [[epoch for (epoch, _), *_ in loader.sequence.ahead._under_way] for _ in loader]
