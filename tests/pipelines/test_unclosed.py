"""What is freed without `close`, or left before its end, in whatever thread Python frees it."""

from __future__ import annotations

import ast
import gc
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from slipform.pipelines.beton import Beton
from slipform.pipelines.executors.resident_pixels import _read_all, _starts
from slipform.pipelines.loader import Loader
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.rendering.request import Settings
from slipform.pipelines.unclosed import THREAD, GeneratorPool, close_when_freed
from slipform.pipelines.workers import Gate, Workers
from tests.modules import holding, tree
from tests.pipelines.epochs import ON_CPU as NAMES

pytestmark = pytest.mark.usefixtures("no_collections")


class Owner:
    """It is freed by a collection only."""

    def __init__(self) -> None:
        self.itself = self


def _closed(before: set[threading.Thread]) -> set[threading.Thread]:
    """The new threads that have not ended, after those that close have ended."""
    for thread in threading.enumerate():
        if thread.name == THREAD:
            thread.join()
    return set(threading.enumerate()) - before


@pytest.mark.parametrize(
    "executor", [pytest.param(x, marks=pytest.mark.slow if x == "resident" else ()) for x in NAMES]
)
def test_a_loader_is_freed_in_a_thread_of_its_own(shapes: Path, executor: str) -> None:
    """Closing waits for this thread, which cannot wait for itself."""
    before = set(threading.enumerate())
    owner, spec = Owner(), Augmentation(image_size=24)
    loader = Loader(shapes, augment=spec, batch_size=16, executor=executor, threads=2)
    next(iter(loader))
    assert _closed(before)
    submitting = loader.sequence.ahead._submitting
    owner.loader = loader  # type: ignore[attr-defined]
    del owner, loader
    submitting.submit(gc.collect).result()  # an error would be reported as unraisable
    assert not _closed(before)


def test_freeing_does_not_wait() -> None:
    """The thread that frees may hold what the threads wait for."""
    before = set(threading.enumerate())
    workers, held, begun = Workers(2, "slipform-test"), Gate(), Gate()

    def work() -> None:
        begun.open()
        held.wait()

    owner = Owner()
    close_when_freed(owner, workers.close)
    task = workers.submit(work)
    while not begun.is_open():
        pass
    del owner
    gc.collect()  # it returns before the gate is open
    held.open()
    task.result()
    assert not _closed(before)


def test_an_owner_that_was_closed_is_not_closed_again(shapes: Path) -> None:
    calls: list[str] = []
    owner = Owner()
    close_when_freed(owner, lambda: calls.append("closed")).detach()
    del owner
    gc.collect()
    assert not _closed(set(threading.enumerate()))
    assert not calls
    loader = Loader(shapes, augment=Augmentation(image_size=24), batch_size=16)
    loader.close()
    assert not loader.sequence._unclosed.alive


def test_pixels_that_nobody_takes_may_be_freed_in_a_thread_of_their_pool(shapes: Path) -> None:
    """This thread cannot wait for itself: an error would be reported as unraisable."""
    before, owner, beton = set(threading.enumerate()), Owner(), Beton(shapes / "train.beton")
    spec = Augmentation(image_size=8, normalize="half").resolved([], [])
    settings = Settings(spec, 2, torch.float32, torch.device("cpu"), threads=2)
    parts: Any = _read_all(beton, settings, _starts(beton))
    next(parts)
    pool = parts.gi_frame.f_locals["pool"]
    owner.parts = parts  # type: ignore[attr-defined]
    del owner, parts
    pool.submit(gc.collect).result()
    assert pool._shutdown
    for thread in set(threading.enumerate()) - before:
        thread.join()


@pytest.mark.parametrize("fails", [False, True], ids=["end", "error"])
def test_a_pool_of_a_generator_waits_at_its_end(fails: bool) -> None:
    before = set(threading.enumerate())

    def numbers() -> Iterator[int]:
        with GeneratorPool(2) as pool:
            yield from pool.map(abs, range(20))
            if fails:
                raise KeyError

    found = numbers()
    assert [next(found) for _ in range(20)] == list(range(20))
    with pytest.raises(KeyError if fails else StopIteration):
        next(found)
    assert set(threading.enumerate()) <= before


def _pools_of_generators(code: ast.Module) -> Iterator[str]:
    """The generators with a block of a ThreadPoolExecutor, which waits in whatever thread."""
    for function in ast.walk(code):
        if isinstance(function, ast.FunctionDef):
            for block in ast.walk(function):
                if isinstance(block, ast.With) and any(
                    isinstance(node, ast.Yield | ast.YieldFrom) for node in ast.walk(block)
                ):
                    held = " ".join(ast.unparse(item) for item in block.items)
                    if "ThreadPoolExecutor(" in held:
                        yield function.name


def test_generators_have_pools_of_their_own_kind() -> None:
    code = "def f():\n with {}(2) as pool:\n  yield from pool.map(g, [])"
    assert list(_pools_of_generators(ast.parse(code.format("ThreadPoolExecutor")))) == ["f"]
    assert not list(_pools_of_generators(ast.parse(code.format("GeneratorPool"))))
    modules = holding(r"ThreadPoolExecutor\(")
    assert modules
    found = {module: list(_pools_of_generators(tree(module))) for module in modules}
    assert not {module: names for module, names in found.items() if names}
