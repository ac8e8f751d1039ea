"""Streams and buffers against a model of CUDA's streams: every stream is a list of operations with
the operations they wait for, and any order that respects these is possible.

Shown for SideStream alone, and for RenderPool and ResidentGpuExecutor as they use it, on memory of
the CPU: no fill before the consumer's last read of its slot, no read before the fill has ended, no
fill before what was enqueued when its block was allocated, nothing after `close` before all fills.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slipform.pipelines.beton import Beton
from slipform.pipelines.executors import resident_gpu
from slipform.pipelines.executors.host import HostExecutor
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.plan import draw
from slipform.pipelines.rendering import pool, stream
from slipform.pipelines.rendering import triton as kernel
from slipform.pipelines.rendering.request import BatchRequest, Settings
from slipform.train.step.graph import CudaGraphs
from tests.pipelines import folders

GPU = torch.device("cuda", 0)


class Work:
    """One operation on a stream."""

    def __init__(self, after: list[Work]) -> None:
        self.after = after

    def follows(self, other: Work) -> bool:
        waiting, seen = [self], set()
        while waiting:
            work = waiting.pop()
            if work is other:
                return True
            if id(work) not in seen:
                seen.add(id(work))
                waiting += work.after
        return False


class Stream:
    def __init__(self, device: Any = None) -> None:
        self.device, self.last = GPU, Work([])
        self.awaited: list[Any] = []

    def enqueue(self) -> Work:
        self.last, self.awaited = Work([self.last, *self.awaited]), []
        return self.last

    def wait_event(self, event: Event) -> None:
        self.awaited += [event.work] if event.work else []

    def wait_stream(self, other: Stream) -> None:
        self.awaited.append(other.last)


class Event:
    def __init__(self) -> None:
        self.work: Work | None = None

    def record(self, on: Stream) -> None:
        self.work = on.enqueue()

    def synchronize(self) -> None:
        pass


class Gpu:
    """The current streams, and what was filled and read in which slot."""

    def __init__(self) -> None:
        self.current = [Stream()]
        self.fills: list[tuple[int, Work]] = []
        self.reads: list[tuple[int, Work]] = []
        self.devices: list[Any] = []

    @contextmanager
    def stream(self, chosen: Stream) -> Iterator[None]:
        self.current.append(chosen)
        yield
        self.current.pop()

    def work(self) -> Work:
        return self.current[-1].enqueue()


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    model = Gpu()
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "stream", model.stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: model.current[-1])
    monkeypatch.setattr(torch.cuda, "set_device", model.devices.append)

    class Recorded(stream.SideStream):
        @contextmanager
        def fill(self, slot: int) -> Iterator[None]:
            with super().fill(slot):
                yield
                model.fills.append((slot, model.work()))

        def hand_out(self, slot: int) -> None:
            super().hand_out(slot)
            model.reads.append((slot, model.work()))

    for module in (pool, resident_gpu, stream):
        monkeypatch.setattr(module, "SideStream", Recorded)
    # Memory of the CPU stands for the device's and for pinned memory.
    empty, to = torch.empty, torch.Tensor.to

    def on_cpu(*shape: Any, device: Any = None, pin_memory: bool = False, **options: Any) -> Any:
        return empty(*shape, **options)

    monkeypatch.setattr(torch, "empty", on_cpu)
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
    """Pairs of a slot's fills and reads that may run in the wrong order."""
    bad = 0
    for slot in {slot for slot, _ in gpu.fills}:
        fills = [work for at, work in gpu.fills if at == slot]
        reads = [work for at, work in gpu.reads if at == slot]
        bad += sum(not read.follows(fill) for fill, read in zip(fills, reads, strict=False))
        bad += sum(not fill.follows(read) for read, fill in zip(reads, fills[1:], strict=False))
    return bad


def check(gpu: Gpu, before: Work, close: Callable[[], None]) -> None:
    assert gpu.reads
    assert misordered(gpu) == 0
    assert all(fill.follows(before) for _, fill in gpu.fills)
    close()
    after = gpu.work()
    assert all(after.follows(fill) for _, fill in gpu.fills)
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


@pytest.mark.parametrize("reuse", [True, False])
@pytest.mark.parametrize("kind", [resident_gpu.ResidentGpuExecutor, HostExecutor])
def test_executors_order_their_work(gpu: Gpu, kind: Any, reuse: bool, tmp_path: Path) -> None:
    images = [folders.noise(12, 10, k) for k in range(4)]
    beton = Beton(Path(folders.write_folder(tmp_path / "raw", images)) / "train.beton")
    spec = Augmentation(image_size=8, normalize="half").resolved([], [])
    before = gpu.work()
    executor = kind(beton, Settings(spec, 4, torch.float32, GPU, 1, reuse_buffers=reuse))
    indices = np.arange(4)
    plan = draw(spec, indices, beton.heights, beton.widths, 0, 0)
    for _ in range(2):
        executor.submit(BatchRequest(indices, lambda _: plan))
    for step in range(8):
        executor.collect()
        if step == 5:
            executor.reset()
            executor.submit(BatchRequest(indices, lambda _: plan))
        executor.submit(BatchRequest(indices, lambda _: plan))
    check(gpu, before, executor.close)
    assert set(gpu.devices) == ({GPU.index} if kind is HostExecutor else set())


def test_work_before_a_capture_is_ordered_with_the_current_stream(
    gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eager steps run on the stream of the captures; what follows on the current stream waits."""
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
    # The thread of the recorder waits for events while a graph is captured.
    assert [options["capture_error_mode"] for options in captured] == ["thread_local"] * 2
    assert [options["pool"] for options in captured] == [None, (0, 1)]
