"""Memory is used again when, and only when, nothing refers to it any more."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

import slipform as sf
from slipform.pipelines.rendering.recycled import Recycled

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_freed_buffer_is_used_again(dtype: torch.dtype) -> None:
    buffers = Recycled((4, 5, 5, 3), dtype, 2)
    first = buffers.take()
    assert (first.shape, first.dtype) == ((4, 5, 5, 3), dtype)
    assert first.is_contiguous()
    place = first.data_ptr()
    assert place % 64 == 0
    del first
    assert buffers.take().data_ptr() == place


@pytest.mark.parametrize(
    "hold",
    [
        lambda images: images[1:],
        lambda images: images.permute(0, 3, 1, 2),
        lambda images: images.detach(),
        lambda images: images.numpy(),
        lambda images: images.untyped_storage(),
        lambda images: images.view(torch.int32),
        lambda images: [images],
    ],
    ids=["slice", "permute", "detach", "numpy", "storage", "other dtype", "list"],
)
def test_whatever_refers_to_the_memory_keeps_it(hold) -> None:  # type: ignore[no-untyped-def]
    buffers = Recycled((4, 2, 2, 3), torch.float32, 2)
    images = buffers.take()
    place = images.data_ptr()
    held = hold(images)
    del images
    other = buffers.take()
    assert other.data_ptr() != place
    del held, other
    assert place in {one.data_ptr() for one in (buffers.take(), buffers.take())}


def test_a_graph_of_autograd_keeps_it() -> None:
    buffers = Recycled((8,), torch.float32, 2)
    images, weight = buffers.take(), torch.ones(8, requires_grad=True)
    images.fill_(3)
    loss = (images * weight).sum()
    del images
    buffers.take().fill_(7)
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.equal(weight.grad, torch.full((8,), 3.0))  # type: ignore[arg-type]


def test_only_some_freed_buffers_are_kept() -> None:
    buffers = Recycled((1000,), torch.float32, 2)
    held = [buffers.take() for _ in range(5)]
    places = [one.data_ptr() for one in held]
    while held:
        del held[0]
    assert len(buffers._free) == 2
    assert buffers.take().data_ptr() == places[-1]


def test_other_threads_may_free_them() -> None:
    buffers = Recycled((100,), torch.float32, 4)
    held = [[buffers.take()] for _ in range(200)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(list.clear, held))
    taken = [buffers.take() for _ in range(4)]
    assert len({one.data_ptr() for one in taken}) == 4


@pytest.mark.parametrize("executor", ["host", "resident"])
def test_a_loader_uses_a_few_buffers_in_turn(shapes: Path, executor: str) -> None:
    augment = sf.Augmentation(image_size=32)
    with sf.Loader(
        shapes, "train", augment, batch_size=16, prefetch=2, executor=executor
    ) as loader:
        places = [images.data_ptr() for epoch in range(4) for images, _ in loader]
        loader.set_epoch(0)
        kept = [images for images, _ in loader]
    assert len(set(places)) <= 20 < len(places)
    with sf.Loader(shapes, "train", augment, batch_size=16, executor=executor) as loader:
        for was, (images, _) in zip(kept, loader, strict=True):
            np.testing.assert_array_equal(was, images)
