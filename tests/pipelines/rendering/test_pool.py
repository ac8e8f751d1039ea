"""The render threads and their buffers: order, parts, access to buffers, errors and closing."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from slipform.pipelines.decoding.pixels import Pixels
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.plan import Plan, draw
from slipform.pipelines.rendering import prepare as module
from slipform.pipelines.rendering.pool import RenderPool, Source
from slipform.pipelines.rendering.request import Settings
from tests.pipelines import folders

SPEC = Augmentation(image_size=6, crop="random_resized", flip="horizontal", erase=0.5).resolved(
    [], []
)
COUNT = 11


@contextmanager
def _pool(num_buffers: int = 2, num_threads: int = 0) -> Iterator[RenderPool]:
    pool = RenderPool(
        Settings(SPEC, COUNT, torch.float32, torch.device("cpu"), 2), num_buffers, num_threads
    )
    try:
        yield pool
    finally:
        pool.close()


def _batch(seed: int) -> Source:
    """Eleven images of 9 x 8 px and their Plan. The fourth image cannot be read."""
    images = np.stack([folders.noise(9, 8, 100 * seed + k) for k in range(COUNT)])
    heights, widths = np.full(COUNT, 9, np.int32), np.full(COUNT, 8, np.int32)

    plan = draw(SPEC, np.arange(COUNT), heights, widths, seed, 0)

    def source(at: slice) -> tuple[Plan, Pixels]:
        positions = np.arange(COUNT)[at]
        pixels = Pixels(
            images.ctypes.data + 216 * positions,
            heights[at],
            widths[at],
            origin=np.zeros((len(positions), 2), np.int32),
            bad=tuple(np.flatnonzero(positions == 3).tolist()),
            owner=images,
        )
        return plan.part(at), pixels

    return source


def _alone(seed: int) -> torch.Tensor:
    with _pool(1, 1) as pool:
        pool.begin_reading(COUNT, _batch(seed), COUNT)
        return pool.collect().images.clone()


@pytest.mark.parametrize("part", [0, 1, 3, 4, 11, 50])
def test_a_batch_is_the_same_in_parts_of_any_size(part: int) -> None:
    with _pool() as pool:
        for seed in range(4):
            if part:
                pool.begin_reading(COUNT, _batch(seed), part)
            else:
                pool.begin(*_batch(seed)(slice(0, COUNT)))
            rendered = pool.collect()
            assert torch.equal(rendered.images, _alone(seed))
            assert rendered.bad == [3]


def test_batches_in_memory_wait_for_buffers_that_are_free() -> None:
    """Six batches are begun at once with two buffers. Each buffer is replaced when it is handed
    out."""
    with _pool(num_threads=2) as pool:
        for seed in range(6):
            pool.begin(*_batch(seed)(slice(0, COUNT)))
        kept = [pool.collect().images for _ in range(6)]
        for seed, images in enumerate(kept):
            assert torch.equal(images, _alone(seed))


def test_batches_come_in_order_and_only_into_buffers_that_are_free() -> None:
    """Five batches are begun at once with two buffers. Threads work ahead until they need a
    buffer."""
    sources = []
    with _pool(num_threads=3) as pool:
        for seed in range(5):
            source = _batch(seed)

            def read(at: int, seed: int = seed, source: Any = source) -> Any:
                sources.append(seed)
                return source(at)

            pool.begin_reading(COUNT, read, COUNT)
        for seed in range(5):
            images = pool.collect().images
            time.sleep(0.05)  # enough time for a forbidden write
            assert torch.equal(images, _alone(seed))
            assert max(sources) <= seed + 4, "at most three threads wait with their pixels"
    assert sorted(sources) == list(range(5))


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize(("count", "here"), [(1, True), (2, True), (3, False), (11, False)])
def test_only_small_batches_are_rendered_by_the_caller(
    monkeypatch: pytest.MonkeyPatch, num_threads: int, count: int, here: bool
) -> None:
    """At 224 px this is two images. Threads render larger batches while the consumer trains, even
    if there are few threads."""
    threads = set()
    monkeypatch.setattr(module, "render", lambda *_: threads.add(threading.current_thread()))
    sides, pixels = np.full(count, 8, np.int32), np.zeros((8, 8, 3), np.uint8)
    spec = Augmentation(image_size=224).resolved([], [])
    settings = Settings(spec, count, torch.float32, torch.device("cpu"), num_threads)
    with contextlib.closing(RenderPool(settings, 2)) as pool:
        plan = draw(spec, np.arange(count), sides, sides, 0, 0)
        whole = Pixels(np.full(count, pixels.ctypes.data), sides, sides)
        pool.begin(plan, whole)
        pool.collect()
    assert (threads == {threading.current_thread()}) == here
    assert here or threading.current_thread() not in threads


def test_an_error_is_raised_when_its_batch_is_collected() -> None:
    source = _batch(0)

    def broken(at: slice) -> tuple[Plan, Pixels]:
        if at.start:
            raise ValueError("sample 7")
        return source(at)

    with _pool() as pool:
        pool.begin_reading(COUNT, source, 4)
        pool.begin_reading(COUNT, broken, 4)
        pool.collect()
        with pytest.raises(ValueError, match="sample 7"):
            pool.collect()


def test_closing_ends_tasks_that_wait_for_a_buffer(no_collections: None) -> None:
    before = set(threading.enumerate())
    with _pool(num_threads=2) as pool:
        for seed in range(6):
            pool.begin_reading(COUNT, _batch(seed), 2)
        images = pool.collect().images
        copy = images.clone()
        time.sleep(0.05)
        pool.close()
        assert torch.equal(images, copy), "the consumer still has that buffer"
    assert set(threading.enumerate()) <= before
