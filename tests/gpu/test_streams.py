"""Streams and buffers, tested in the model of `tests.gpu.modeled`.

These rules hold for SideStream alone and for the executors that use it, on CPU memory. A fill
starts after the last read of its slot by the consumer. A read starts after the fill has ended. A
fill starts after the work that was enqueued when its memory was allocated. Work after `close`
starts after all fills.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from slipform.pipelines.beton import Beton
from slipform.pipelines.executors import dali, resident_gpu, resident_pixels
from slipform.pipelines.executors.host import HostExecutor
from slipform.pipelines.executors.stream import StreamExecutor
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.plan import draw
from slipform.pipelines.rendering import pool, ring, stream
from slipform.pipelines.rendering import triton as kernel
from slipform.pipelines.rendering.request import BatchRequest, Settings
from slipform.train.step.graph import CudaGraphs
from tests.gpu.modeled import GPU, Event, Gpu, Stream, Work
from tests.pipelines import folders


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    model = Gpu()
    monkeypatch.setattr(Stream, "finished", [])
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "stream", model.stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: model.current)
    monkeypatch.setattr(torch.cuda, "set_device", model.devices.append)

    class Recorded(stream.SideStream):
        @contextmanager
        def fill(self, slot: int) -> Iterator[None]:
            with super().fill(slot):
                yield
                model.uses.append((slot, "fill", model.work()))

        def hand_out(self, slot: int) -> None:
            super().hand_out(slot)
            model.uses.append((slot, "read", model.work()))

    for module in (pool, ring, stream):
        monkeypatch.setattr(module, "SideStream", Recorded)
    # CPU memory replaces device memory and pinned memory.
    to = torch.Tensor.to

    def on_cpu(make: Any) -> Any:
        return lambda *a, device=None, pin_memory=False, **options: make(*a, **options)

    for name in ("empty", "zeros", "arange"):
        monkeypatch.setattr(torch, name, on_cpu(getattr(torch, name)))
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    monkeypatch.setattr(
        torch.Tensor, "to", lambda self, *a, **k: self if a[0] == GPU else to(self, *a, **k)
    )

    class Launch:
        def __getitem__(self, grid: Any) -> Any:
            return lambda *_, **__: None

    monkeypatch.setattr(kernel, "render", Launch())
    return model


def misordered(gpu: Gpu) -> int:
    """Pairs of a fill and a read of the same slot that may run in another order than that of their
    calls."""
    bad = 0
    for slot in {slot for slot, _, _ in gpu.uses}:
        uses = [(kind, work) for at, kind, work in gpu.uses if at == slot]
        for number, (kind, work) in enumerate(uses):
            others = [before for other, before in uses[:number] if other != kind]
            bad += sum(not work.follows(before) for before in others)
    return bad


def _of(gpu: Gpu, kind: str) -> list[Work]:
    return [work for _, found, work in gpu.uses if found == kind]


def check(gpu: Gpu, before: Work, close: Callable[[], None], parts: int = 1) -> None:
    reads = len(_of(gpu, "read"))
    assert reads
    assert len(_of(gpu, "fill")) >= parts * reads
    assert misordered(gpu) == 0
    assert all(fill.follows(before) for fill in _of(gpu, "fill"))
    with gpu.stream(Stream()):  # a thread of its own may close, with another current stream
        close()
    after = gpu.work()
    assert all(after.follows(fill) for fill in _of(gpu, "fill"))
    close()


def _side_stream(gpu: Gpu, depth: int, slots: int) -> stream.SideStream:
    side = stream.SideStream(GPU, slots)
    queue: list[int] = []
    filled = 0
    for _ in range(20):
        while len(queue) < depth:
            with side.fill(filled % slots):
                pass
            queue.append(filled % slots)
            filled += 1
        side.hand_out(queue.pop(0))
    return side


@pytest.mark.parametrize("depth", [1, 2, 3, 8])
def test_one_slot_more_than_batches_ahead_is_enough(gpu: Gpu, depth: int) -> None:
    before = gpu.work()
    check(gpu, before, _side_stream(gpu, depth, depth + 1).close)


def test_the_model_finds_a_ring_that_is_too_small(gpu: Gpu) -> None:
    _side_stream(gpu, 3, 3)
    assert misordered(gpu) > 0


class Feed:
    """Replaces the graph of `dali`: it gives black images."""

    decoder_share = None

    def __init__(self, beton: Beton, settings: Settings) -> None:
        self._size, self._plans = settings.spec.image_size, deque[Any]()

    def feed(self, request: BatchRequest) -> None:
        self._plans.append(request.plan())

    def take(self, stream: Stream) -> tuple[list[Any], Any, list[int]]:
        assert isinstance(stream, Stream)
        plan = self._plans.popleft()
        images = torch.zeros(len(plan), self._size, self._size, 3)
        return [SimpleNamespace(as_tensor=lambda: images)], plan, []

    def reset(self) -> None:
        self._plans.clear()

    def close(self) -> None:
        pass


PARTS = {StreamExecutor: 2}


@pytest.mark.parametrize("reuse", [True, False])
@pytest.mark.parametrize(
    "kind", [resident_gpu.ResidentGpuExecutor, HostExecutor, StreamExecutor, dali.DaliExecutor]
)
def test_executors_order_their_work_correctly(
    gpu: Gpu, kind: Any, reuse: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dali, "DaliFeed", Feed)
    monkeypatch.setattr(resident_pixels, "free_memory_bytes", lambda device: 2**30)
    images = [folders.noise(12, 10, k) for k in range(4)]
    beton = Beton(Path(folders.write_folder(tmp_path / "raw", images)) / "train.beton")
    spec = Augmentation(image_size=8, normalize="half").resolved([], [])
    before = gpu.work()
    executor = kind(beton, Settings(spec, 4, torch.float32, GPU, 2, reuse_buffers=reuse))
    if kind is StreamExecutor:
        executor._core_part = 2
    indices = np.arange(4)
    request = BatchRequest(
        indices, lambda at: draw(spec, at, beton.heights[at], beton.widths[at], 0, 0)
    )
    for _ in range(executor.depth):
        executor.submit(request)
    for step in range(8):
        executor.collect()
        if step == 5:
            executor.reset()
            for _ in range(executor.depth - 1):
                executor.submit(request)
        executor.submit(request)
    check(gpu, before, executor.close, PARTS.get(kind, 1))
    threaded = kind is not resident_gpu.ResidentGpuExecutor
    assert set(gpu.devices) == ({GPU.index} if threaded else set())


def test_work_before_a_capture_is_ordered_with_the_current_stream(
    gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eager steps run on the stream of the captures. Later work on the current stream waits for
    them."""
    captured: list[dict[str, Any]] = []

    class Graph:
        def replay(self) -> None:
            gpu.work()

        def pool(self) -> tuple[int, int]:
            return (0, 1)

    @contextmanager
    def capture(graph: Graph, **options: Any) -> Iterator[None]:
        captured.append(options)
        with gpu.stream(options["stream"]):
            yield

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    graphs = CudaGraphs(GPU)
    before, works = gpu.work(), []
    graphs.eagerly(lambda: works.append(gpu.work()))
    after = gpu.work()
    assert works[0].follows(before)
    assert after.follows(works[0])
    for _ in range(2):
        replay = graphs.capture(lambda: works.append(gpu.work()))
        replay()
    # The thread of the recorder waits for events during a capture.
    assert [options["capture_error_mode"] for options in captured] == ["thread_local"] * 2
    assert [options["pool"] for options in captured] == [None, (0, 1)]
