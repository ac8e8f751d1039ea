"""Loops over a Loader: where each begins and ends, and in which process."""

from __future__ import annotations

import copy
import pickle
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from slipform.pipelines.errors import ConfigError, SlipformError
from slipform.pipelines.loader import Loader
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.rendering.pool import RenderPool
from tests.pipelines.epochs import ON_CPU as NAMES
from tests.warm import Warm

SPEC = Augmentation(image_size=24, crop="random_resized", flip="horizontal")
SLOW = pytest.param("resident", marks=pytest.mark.slow)  # its threads are those of "host"


def _loader(folder: Path, executor: str = "resident", **options: Any) -> Loader:
    options = {"batch_size": 16, "threads": 2, "augment": SPEC} | options
    return Loader(folder, options.pop("split", "train"), executor=executor, **options)


def _indices(loader: Loader) -> list[int]:
    return [i for batch in loader for i in batch.indices.tolist() if i >= 0]


@pytest.mark.parametrize("executor", NAMES)
@pytest.mark.parametrize("looks", [0, 1, 2, 4])
def test_evaluation_begins_at_the_beginning(shapes: Path, executor: str, looks: int) -> None:
    """For any number of batches in the previous loop."""
    with _loader(shapes, executor, split="val", training=False) as loader:
        want = [batch.images for batch in loader]
        for _ in range(2):
            loop = iter(loader)
            for k in range(looks):
                assert torch.equal(next(loop).images, want[k])
            assert loader.remaining_batches == (4 - looks or 4)
            for batch, images in zip(loader, want, strict=True):
                assert torch.equal(batch.images, images)
        assert _indices(loader) == list(range(60))


@pytest.mark.parametrize("executor", NAMES)
def test_training_continues_and_set_epoch_goes_back(shapes: Path, executor: str) -> None:
    with _loader(shapes, executor) as loader:
        epochs = [_indices(loader) for _ in range(3)]
        loader.set_epoch(1)
        taken: list[int] = []
        for batch in loader:
            taken += batch.indices.tolist()
            if len(taken) == 48:
                break
        assert taken + _indices(loader) == epochs[1]
        assert _indices(loader) == epochs[2]
        for epoch in (2, 0, 1):
            loader.set_epoch(epoch)
            assert (loader.epoch, loader.seen) == (epoch, 0)
            assert _indices(loader) == epochs[epoch]
        with pytest.raises(ConfigError, match="epoch = -1"):
            loader.set_epoch(-1)


def test_only_one_loop_at_a_time(shapes: Path) -> None:
    """Two loops would share one position."""
    with _loader(shapes) as loader:
        state = loader.state_dict()
        for end in (
            lambda: iter(loader),
            lambda: loader.set_epoch(0),
            lambda: loader.load_state_dict(state),
        ):
            first = iter(loader)
            next(first)
            end()
            with pytest.raises(SlipformError, match="this loop over the Loader has ended"):
                next(first)
        whole = iter(loader)
        assert len(list(whole)) == len(loader)
        iter(loader)
        assert list(whole) == []


def test_evaluation_has_no_position_to_load(shapes: Path) -> None:
    with (
        _loader(shapes, split="val", training=False) as loader,
        pytest.raises(ConfigError, match="begins at the beginning"),
    ):
        loader.load_state_dict(loader.state_dict())


def test_a_closed_loader_raises_an_error(shapes: Path) -> None:
    loader = _loader(shapes)
    loop = iter(loader)
    next(loop)
    loader.close()
    for use in (lambda: iter(loader), lambda: next(loop), lambda: loader.set_epoch(1)):
        with pytest.raises(SlipformError, match="closed"):
            use()


@pytest.mark.parametrize("executor", ["host", "resident"])
def test_a_thread_that_waits_while_another_one_closes(
    shapes: Path, executor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets its batch, although parts of it were not begun before, and then an error."""
    went_on, found = threading.Event(), list[object]()
    render = RenderPool._render

    def later(*arguments: Any) -> float:
        went_on.wait()
        return render(*arguments)

    monkeypatch.setattr(RenderPool, "_render", later)
    monkeypatch.setattr("slipform.pipelines.rendering.pool.SMALL_BATCH", 0)
    loader = _loader(shapes, executor, threads=1, batch_size=64)
    loop = iter(loader)

    def take() -> None:
        try:
            found.append(len(next(loop)))
            next(loop)
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    while loader.sequence._taker is None:
        time.sleep(0.001)
    threading.Timer(0.3, went_on.set).start()
    loader.close()
    thread.join()
    assert found[0] == 64
    assert isinstance(found[1], SlipformError)
    assert "closed" in str(found[1])


@pytest.mark.parametrize("copied", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_loader_cannot_be_copied(shapes: Path, copied: Any) -> None:
    with (
        _loader(shapes) as loader,
        pytest.raises(SlipformError, match="cannot be pickled or copied"),
    ):
        copied(loader)


@pytest.mark.parametrize("copied", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_loop_cannot_be_copied(shapes: Path, copied: Any) -> None:
    with (
        _loader(shapes) as loader,
        pytest.raises(SlipformError, match="cannot be pickled or copied"),
    ):
        copied(iter(loader))


FORK = """
import os, signal, sys, warnings
warnings.simplefilter("ignore")
from slipform.pipelines.errors import SlipformError
from slipform.pipelines.loader import Loader
from slipform.pipelines.plan.augmentation import Augmentation
folder, executor = sys.argv[1:]
augment = Augmentation(image_size=24)
loader = Loader(folder, augment=augment, batch_size=16, executor=executor, threads=2)
loop = iter(loader)
next(loop)
child = os.fork()
if not child:
    signal.alarm(200)  # a hang ends
    said = 0
    for use in (lambda: next(loop), lambda: iter(loader), lambda: loader.set_epoch(0)):
        try:
            use()
        except SlipformError as error:
            said += "fork" in str(error)
    loader.close()
    try:
        with Loader(folder, augment=augment, batch_size=16, executor=executor, threads=2) as own:
            said += len(list(own)) == len(own)
    except SlipformError as error:
        said += "fork" in str(error)
    sys.exit(10 + said)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 14, status
assert sum(1 for _ in loop) == len(loader) - 1  # the parent goes on
loader.close()
"""


@pytest.mark.parametrize("executor", ["host", "dali", SLOW])
def test_a_forked_child_gets_an_error_instead_of_a_hang(
    shapes: Path, executor: str, warm_process: Warm
) -> None:
    """The loader of the parent is refused. A new loader in the child works, or raises an error."""
    ended = warm_process.run(FORK, shapes, executor)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("executor", ["host", "dali", SLOW])
def test_a_loader_that_is_never_closed(shapes: Path, executor: str, warm_process: Warm) -> None:
    """Its threads end with its last reference, which the loop may hold, and the process exits."""
    script = f"""
import gc, sys, threading
from pathlib import Path
from slipform.pipelines.loader import Loader
from slipform.pipelines.unclosed import THREAD

before = threading.active_count()
loop = iter(Loader({str(shapes)!r}, batch_size=16, executor={executor!r}, threads=2))
assert len(list(loop)) > 1
assert threading.active_count() > before
del loop
gc.collect()
for thread in threading.enumerate():
    if thread.name == THREAD:
        thread.join()
assert threading.active_count() == before, threading.enumerate()

batches = iter(Loader({str(shapes)!r}, batch_size=16, executor={executor!r}, threads=2))
next(batches)
print("end")
"""
    ended = warm_process.run(script)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "end\n", "")
