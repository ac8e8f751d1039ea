"""Batches of images that are left before their end, in whatever thread Python frees them."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import torch

from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.rendering.pool import RenderPool
from slipform.pipelines.unclosed import THREAD
from slipform.train.inference import predict
from slipform.train.inference.predict import ImageBatch, read_batches

pytestmark = pytest.mark.usefixtures("no_collections")
PIXELS = np.zeros((20, 30, 3), np.uint8)


class Owner:
    """It is freed by a collection only."""

    def __init__(self) -> None:
        self.itself, self.batches = self, batches()


def batches() -> Iterator[ImageBatch]:
    spec = Augmentation(image_size=16, normalize=((0.5,) * 3, (0.5,) * 3)).evaluation()
    return read_batches([PIXELS] * 2, spec, torch.float32, torch.device("cpu"), {})


def new_threads(before: set[threading.Thread]) -> set[threading.Thread]:
    """The new threads that have not ended, after those that close have ended."""
    for thread in threading.enumerate():
        if thread.name == THREAD:
            thread.join()
    return set(threading.enumerate()) - before


def test_they_are_freed_in_a_thread_of_their_own() -> None:
    """Closing waits for this thread, which cannot wait for itself."""
    before, owner = set(threading.enumerate()), Owner()
    next(owner.batches)
    assert new_threads(before)
    generator: Any = owner.batches
    frame = generator.gi_frame
    workers = frame.f_locals["renderer"]._pool._workers
    del owner, generator, frame
    workers.submit(gc.collect).result()  # an error would be reported as unraisable
    assert not new_threads(before)


def test_they_are_freed_after_a_break() -> None:
    before = set(threading.enumerate())
    for _ in batches():
        break
    assert not new_threads(before)


@pytest.mark.parametrize("fails", [False, True], ids=["end", "error"])
def test_the_threads_have_ended_at_the_end(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """No other thread closes: it would be among the new ones, or still be at work."""

    def fail(*_: object) -> None:
        raise MemoryError("for the test")

    before, closed = set(threading.enumerate()), list[object]()
    monkeypatch.setattr("slipform.pipelines.unclosed._close", lambda *given: closed.append(given))
    if fails:
        monkeypatch.setattr(predict, "_try_to_read", fail)
        with pytest.raises(MemoryError, match="for the test"):
            list(batches())
    else:
        assert len(list(batches())) == 1
    assert set(threading.enumerate()) <= before
    assert not closed


@pytest.mark.parametrize(
    "how",
    [
        "end",
        pytest.param("break", marks=pytest.mark.slow),
        "error of an image",
        pytest.param("error of rendering", marks=pytest.mark.slow),
    ],
)
def test_no_collection_is_needed_to_free_them(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    list(batches())  # numba's first use of a kernel leaves errors, which refer to the pool
    pools: list[weakref.ref[RenderPool]] = []

    class Kept(RenderPool):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            pools.append(weakref.ref(self))

    def fail(*_: object) -> None:
        raise MemoryError("for the test")

    monkeypatch.setattr(predict, "RenderPool", Kept)
    if how == "error of an image":
        monkeypatch.setattr(predict, "_try_to_read", fail)
    if how == "error of rendering":
        monkeypatch.setattr(RenderPool, "_render", fail)
    with suppress(MemoryError):
        for _ in batches():
            if how == "break":
                break
        assert "error" not in how
    new_threads(set())  # those that close have ended
    assert [one() for one in pools] == [None]
