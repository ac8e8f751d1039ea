"""How many batches are under way, and which."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from slipform.pipelines import executors
from slipform.pipelines.errors import SampleError
from slipform.pipelines.loader import Loader
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.profile import profile_key, profile_path, write_profile
from slipform.pipelines.rendering.request import requests_ahead
from tests.pipelines import folders


def _ahead(loader: Loader) -> list[int]:
    """The epochs of the batches that are made, and of those under way."""
    ahead = loader.sequence.ahead
    ready = [epoch for (epoch, _), *_ in ahead._ready]
    return ready + [epoch for places, _ in ahead._under_way for epoch, _ in places[:-1]]


def _under_way(loader: Loader, count: int) -> list[list[int]]:
    """The epochs of the batches ahead, after each of the next batches."""
    found: list[list[int]] = []
    while len(found) < count:
        for _ in loader:
            found.append(_ahead(loader))
            if len(found) == count:
                break
    return found


@pytest.mark.parametrize("executor", ["host", "resident"])
@pytest.mark.parametrize(
    ("options", "first"),
    [
        # Two requests are under way: for 1 and 2 small batches, for 2 and 4, 4 and 8, 8 and 8.
        ({}, [2, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12, 11, 10, 9, 8, 15]),
        ({"prefetch": 3}, [2] * 11),
        # 80 images of 64 px are more than twice the pixels of a small batch.
        ({"batch_size": 80, "image_size": 64}, [1] * 11),
    ],
)
def test_small_batches_are_made_together(
    shapes: Path, executor: str, options: dict[str, Any], first: list[int]
) -> None:
    options = {"batch_size": 4, "image_size": 24} | options
    spec = Augmentation(image_size=options.pop("image_size"), crop="random_resized")
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

    assert under_way("auto") == ("resident", [2, 5, 4, 11])
    monkeypatch.setattr(executors, "MEMORY_SHARE", 0.0)
    assert under_way("auto") == ("dali", [2] * 4)
    assert under_way("dali") == ("dali", [2] * 4)


def test_no_batch_is_begun_beyond_the_next_epoch(shapes: Path) -> None:
    """Two batches are an epoch."""
    spec = Augmentation(image_size=24, crop="random_resized")
    with Loader(shapes, "train", spec, batch_size=120, threads=1) as loader:
        assert _under_way(loader, 5) == [[0], [1, 1], [1, 2, 2], [2, 2], [2, 3, 3]]
    with Loader(shapes, "train", spec, batch_size=120, threads=1, training=False) as loader:
        assert [len(epochs) for epochs in _under_way_of_evaluation(loader)] == [1, 0]


def _under_way_of_evaluation(loader: Loader) -> list[list[int]]:
    return [_ahead(loader) for _ in loader]


@pytest.mark.parametrize(
    ("usual", "batch_size", "image_size", "most", "requests"),
    [
        (2, 64, 32, 700, (2, 8)),
        (2, 128, 32, 700, (2, 4)),
        (2, 129, 32, 700, (2, 1)),  # not small
        (3, 512, 32, 700, (3, 1)),
        (64, 64, 32, 700, (8, 8)),  # as many batches as asked for
        (2, 1, 224, 700, (2, 8)),
        (2, 64, 32, 3, (2, 3)),
        (2, 64, 32, 1, (2, 1)),
        (2, 64, 32, 0, (2, 1)),  # an empty split
    ],
)
def test_the_batches_of_a_request(
    usual: int, batch_size: int, image_size: int, most: int, requests: tuple[int, int]
) -> None:
    assert requests_ahead(usual, batch_size, image_size, most) == requests


@pytest.mark.parametrize("executor", ["host", "resident"])
@pytest.mark.parametrize("data", ["shapes", "shapes_raw"])
@pytest.mark.parametrize("options", [{}, {"sampling": "balanced"}, {"rank": 1, "world_size": 2}])
def test_batches_of_one_request_are_those_of_one_request_each(
    executor: str, data: str, options: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    """From the middle of a request on, too, where the next one then begins."""
    folder = request.getfixturevalue(data)
    spec = Augmentation(image_size=24, crop="random_resized", flip="horizontal", mixup=0.5)
    options = {"batch_size": 7, "executor": executor} | options

    def batches(prefetch: int, skipped: int, reuse_buffers: bool) -> Iterator[tuple[Any, ...]]:
        with Loader(
            folder, "train", spec, prefetch=prefetch, reuse_buffers=reuse_buffers, **options
        ) as loader:
            seen = skipped * loader.global_batch_size
            loader.load_state_dict(loader.state_dict() | {"seen": seen})
            for _ in range(2):
                for batch in loader:
                    assert batch.images.is_contiguous(memory_format=torch.channels_last)
                    mixed = batch.mix and (batch.mix.labels.tolist(), batch.mix.weight.tolist())
                    texts = batch.indices.tolist(), batch.labels.tolist(), mixed
                    yield texts, batch.images.clone(), loader.state_dict()

    whole = list(batches(2, 0, True))
    for skipped, reuse_buffers in ((0, True), (3, True), (4, False)):
        found = list(batches(0, skipped, reuse_buffers))
        assert len(found) == len(whole) - skipped
        for (texts, images, state), (own, expected, later) in zip(
            found, whole[skipped:], strict=True
        ):
            assert (texts, state) == (own, later)
            assert torch.equal(images, expected)


@pytest.mark.parametrize("executor", ["host", "resident"])
def test_batches_of_one_request_keep_their_pixels(shapes: Path, executor: str) -> None:
    """Without reuse_buffers for good. With it, until the next one is asked for."""
    spec = Augmentation(image_size=24, crop="random_resized")
    with Loader(shapes, "train", spec, batch_size=4, executor=executor) as loader:
        kept = [(batch, batch.images.clone(), batch.labels.clone()) for batch in loader]
        for _ in loader:
            pass
    assert len(kept) == 60
    for batch, images, labels in kept:
        assert torch.equal(batch.images, images)
        assert torch.equal(batch.labels, labels)
    with Loader(
        shapes, "train", spec, batch_size=4, executor=executor, reuse_buffers=True
    ) as loader:
        for batch, (_, images, labels) in zip(loader, kept, strict=True):
            for name in ("_submitting", "_shuffling"):
                getattr(loader.sequence.ahead, name).settle()
            loader.sequence.ahead.executor._pool._workers.settle()  # type: ignore[attr-defined]
            assert torch.equal(batch.images, images)
            assert torch.equal(batch.labels, labels)


def test_a_change_in_place_is_none_of_the_other_batches(shapes: Path) -> None:
    """Autograd checks that what it saved was not changed. It saved batch k, and k + 1 changes."""
    spec = Augmentation(image_size=24, crop="random_resized")
    with Loader(shapes, "train", spec, batch_size=4, executor="host") as loader:
        batches = list(loader)
    weights, total = torch.ones(3, requires_grad=True), torch.zeros(())
    for batch in batches[3:7]:  # the third request
        batch.images.mul_(0.5)
        batch.labels[0] = -100
        losses = (batch.images.mean(dim=(2, 3)) * weights).logsumexp(1)
        total = total + (losses * batch.images.square().mean(dim=(1, 2, 3))).sum()
        scores = batch.images.mean(dim=(2, 3)) * weights
        total = total + torch.nn.functional.cross_entropy(scores, batch.labels.clamp(max=2))
    total.backward()
    assert weights.grad is not None
    assert weights.grad.abs().sum() > 0


def _note(loader: Loader, seen: list[int]) -> None:
    for batch in loader:
        seen += batch.indices.tolist()


def test_the_batches_before_a_damaged_sample_can_be_had(tmp_path: Path) -> None:
    """A request has several batches. After its error, the next ones have fewer."""
    images = [folders.jpeg(folders.smooth(24, 24, seed=k)) for k in range(64)]
    images[5] = images[5][:200] + bytes(len(images[5]) - 200)
    folder = folders.write_folder(tmp_path / "set", images)
    spec, seen = Augmentation(image_size=24), list[int]()
    options: dict[str, Any] = {"batch_size": 2, "executor": "host"}
    with Loader(folder, "train", spec, on_bad="skip", **options) as loader:
        order = [index for batch in loader for index in batch.indices.tolist()]
    with Loader(folder, "train", spec, **options) as loader:
        for _ in range(5):
            with pytest.raises(SampleError, match="sample 5 "):
                _note(loader, seen)
            assert loader.seen == len(seen)
    assert seen == order[: order.index(5) // 2 * 2]
