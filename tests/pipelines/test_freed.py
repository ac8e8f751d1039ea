"""Errors keep nothing: what they passed is freed with its last reference, not by a collection.

A collection may come much later, or never. Until then, files would stay mapped and samples pinned.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from slipform.pipelines.beton import Beton
from slipform.pipelines.errors import DatasetError, SampleError, SlipformError, StorageError
from slipform.pipelines.executors.dali import DaliExecutor
from slipform.pipelines.loader import Loader
from slipform.pipelines.mirror.beton import MirroredBeton
from slipform.pipelines.mirror.cache import live_readers
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.plan import Plan, draw
from slipform.pipelines.remote.store import open_store
from slipform.pipelines.rendering.request import BatchRequest, Settings
from slipform.pipelines.workers import Task, Workers
from tests.object_server import Fault, Proxy, end_requests
from tests.pipelines import folders
from tests.pipelines.epochs import ON_CPU, open_loader
from tests.pipelines.mirror import stored
from tests.pipelines.mirror.stored import mirror_of, upload

pytestmark = pytest.mark.usefixtures("no_collections")
Use = Callable[[Workers, Callable[[], None]], object]


class Held:
    """What a frame refers to."""


def _by_hand(workers: Workers, call: Callable[[], None]) -> None:
    task = Task(call)
    task.run()
    del task  # nobody asks for its result


USES: dict[str, Use] = {
    "result": lambda workers, call: workers.submit(call).result(),
    "result, looking": lambda workers, call: workers.submit(call).result(lambda: None),
    "results": lambda workers, call: workers.submit_all([call, call, call]).results(),
    "on every thread": lambda workers, call: workers.on_every_thread(call),
    "dropped": _by_hand,
}


def _raise_error(workers: Workers, call: Callable[[], None]) -> None:
    task = workers.submit(call)
    workers.settle()
    task.raise_error()


USES["raise_error"] = _raise_error
QUICK = ("result", "results", "raise_error")


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(use, id=name, marks=() if name in QUICK else pytest.mark.slow)
        for name, use in USES.items()
    ],
)
def test_an_error_of_a_task(use: Use) -> None:
    found: list[weakref.ref[Held]] = []

    def call() -> None:
        held = Held()
        found.append(weakref.ref(held))
        raise KeyError

    workers = Workers(2, "slipform-test")
    with suppress(KeyError):
        use(workers, call)
    workers.close()
    assert found
    assert [one() for one in found] == [None] * len(found)


KEEPS: dict[str, Use] = {
    "task": lambda workers, call: workers.submit(call),
    "tasks": lambda workers, call: workers.submit_all([call, call]),
}


@pytest.mark.parametrize("use", KEEPS.values(), ids=KEEPS)
@pytest.mark.parametrize("cause", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_an_error_that_nobody_asks_for(use: Use, cause: bool) -> None:
    """Nor do its causes keep what was in the frames that they left."""
    found: list[weakref.ref[Held]] = []

    def fail(held: Held) -> None:
        found.append(weakref.ref(held))
        raise KeyError

    def call() -> None:
        try:
            fail(Held())
        except KeyError as error:
            raise ValueError from error if cause else None

    workers = Workers(1, "slipform-test")
    kept = use(workers, call)
    workers.settle()
    assert found
    assert [one() for one in found] == [None] * len(found)
    assert kept
    workers.close()


@pytest.fixture(autouse=True, scope="module")
def kernels(shapes: Path) -> None:
    """They are compiled or read: that leaves errors inside numba, which refer to the first loader,
    until the first collection."""
    for executor in ON_CPU:
        with open_loader(shapes, executor, 4) as loader:
            next(iter(loader))


def _parts(loader: Loader) -> list[weakref.ref[object]]:
    """The loader, and what it has open."""
    ahead = loader.sequence.ahead
    return [weakref.ref(one) for one in (loader, ahead, ahead.executor, loader.samples.beton)]


def _assert_freed(parts: list[weakref.ref[object]]) -> None:
    """At most the threads that close are waited for, and those that fetch."""
    end_requests()
    assert [one() for one in parts] == [None] * len(parts)


@pytest.mark.parametrize("close", [True, False])
@pytest.mark.parametrize(
    "executor", [pytest.param(x, marks=() if x == "host" else pytest.mark.slow) for x in ON_CPU]
)
def test_a_loader_that_is_left_at_any_moment(executor: str, close: bool, shapes: Path) -> None:
    for number in range(8):
        loader = open_loader(shapes, executor, 4)
        for _ in zip(range(number % 4), loader, strict=False):
            pass
        time.sleep(0.0005 * (number % 5))
        parts = _parts(loader)
        if close:
            loader.close()
        del loader
        _assert_freed(parts)


@pytest.mark.parametrize("executor", ["dali", "host"])  # resident reads all before the first batch
def test_a_loader_that_cannot_read_a_sample(executor: str, tmp_path: Path) -> None:
    images = [folders.jpeg(folders.smooth(40, 40 + k, seed=k)) for k in range(48)]
    images[5] = images[5][:700] + bytes(len(images[5]) - 700)
    loader = open_loader(folders.write_folder(tmp_path / "set", images), executor, 4)
    parts = _parts(loader)
    with suppress(SampleError):
        for _ in loader:
            pass
        raise AssertionError
    loader.close()
    del loader
    _assert_freed(parts)


def test_a_dali_executor_with_an_error_that_nobody_asks_for(tmp_path: Path) -> None:
    images = [folders.jpeg(folders.smooth(40, 40 + k, seed=k)) for k in range(4)]
    images[1] = images[1][:300] + bytes(len(images[1]) - 300)
    beton = Beton(Path(folders.write_folder(tmp_path / "set", images)) / "train.beton")
    spec = Augmentation(image_size=16, normalize="half").resolved([], [])
    executor = DaliExecutor(beton, Settings(spec, 4, torch.float32, torch.device("cpu"), threads=1))

    def plan(at: npt.NDArray[np.int64]) -> Plan:
        return draw(spec, at, beton.heights[at], beton.widths[at], seed=0, epoch=0)

    executor.submit(BatchRequest(np.arange(4), plan))
    executor._thread.settle()
    assert executor._under_way[0].is_done()
    left = weakref.ref(executor)
    executor.close()
    del executor
    assert left() is None


def _replace(url: str, store: Proxy) -> None:
    """Another file has the same name."""
    server = open_store(url)
    content = bytes(server.read("train.beton"))
    server.put("train.beton", content[:3000] + bytes(byte ^ 1 for byte in content[3000:]))
    server.put("dataset.json", b"{}")


def _forbid(url: str, store: Proxy) -> None:
    store.faults.append(Fault("403", r"train.beton bytes=", times=1 << 20))


@pytest.mark.parametrize(
    ("act", "error"),
    [
        pytest.param(None, None, id="closed"),
        pytest.param(_replace, DatasetError, id="another dataset", marks=pytest.mark.slow),
        pytest.param(_forbid, StorageError, id="no right"),
    ],
)
def test_a_loader_of_an_object_store(
    act: Callable[[str, Proxy], None] | None,
    error: type[SlipformError] | None,
    object_store: Proxy,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is closed while it waits, or after an error. Nobody uses its mirror then."""
    monkeypatch.setenv("SLIPFORM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("slipform.pipelines.mirror.transfer._PAUSE", 0.0)
    for number in range(3):
        url = upload(photos, object_store.new_folder())
        loader = open_loader(url, "host")
        mirror, parts = mirror_of(url), _parts(loader)
        assert isinstance(loader.samples.beton, MirroredBeton)
        parts.append(weakref.ref(loader.samples.beton.reader))
        object_store.latency = 0.006 * number
        if act is None:
            next(iter(loader))
        else:
            act(url, object_store)
            with suppress(error or KeyError):
                list(loader)
                raise AssertionError
        loader.close()
        del loader
        _assert_freed(parts)
        assert not list(live_readers(mirror))
        object_store.reset()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stored.photos(tmp_path_factory.mktemp("photos") / "photos")
