"""Small, fast runs for the tests of `train`."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from slipform.train.config.recipe import Recipe
from slipform.train.config.resolve import resolve
from slipform.train.config.run_config import RunConfig
from tests.train.drawing import with_empty_svgs, without_figures
from tests.warm import Warm

SMALL = {
    "augment": {"image_size": 32, "resize": 40, "crop": "random", "flip": "horizontal"},
    "model": {"name": "tiny", "options": {"width": 8}},
    "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9},
    "train": {"epochs": 2, "batch_size": 40, "precision": "fp32", "log_every_steps": 4},
    "data": {"threads": 1, "executor": "host"},
}


@pytest.fixture(scope="session")
def small() -> Callable[..., RunConfig]:
    """small("train.epochs=1"): a tiny net at 32 px, six steps in an epoch, changed as by --set."""
    return lambda *sets: resolve(Recipe("small", SMALL), sets)


@pytest.fixture(scope="session")
def trainer() -> Iterator[Warm]:
    """A warm process that has imported what a run imports."""
    modules = ("slipform.train.cli", "slipform.train.run.loop", "slipform.train.run.finish")
    with Warm(*modules, "torch._dynamo", "torch._refs", "torch.distributed.fsdp") as process:
        yield process


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw no figures, which takes longer than the training of these runs."""
    without_figures(monkeypatch)


@pytest.fixture
def empty_svgs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not draw the figures of pages."""
    with_empty_svgs(monkeypatch)


@pytest.fixture
def full_disk() -> Callable[[int], AbstractContextManager[None]]:
    """`with full_disk(1000)`: no file of this process can grow beyond 1000 bytes. write() fails
    with EFBIG, like on a full disk; all further writes fail, too."""

    @contextmanager
    def full(free_bytes: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (free_bytes, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return full
