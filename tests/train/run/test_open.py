"""An error while a run is opened closes what is open already, however long the error is kept."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from slipform.pipelines.errors import ConfigError, SlipformError
from slipform.pipelines.loader import Loader
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.train.config.run_config import RunConfig
from slipform.train.run import open as module
from slipform.train.run.loop import fit
from slipform.train.run.saving import Checkpoints

AFTER_THE_DATA = (
    "build_state", "open_samples", "open_steps", "record_start", "headline", "warm_up",
    "Checkpoints", "_recover_best",
)  # fmt: skip
QUICK = ("build_state", "warm_up", "Checkpoints", "_recover_best")


def _fail(*_: Any, **__: Any) -> NoReturn:
    raise ConfigError("for the test")


@pytest.mark.parametrize(
    "where", [pytest.param(x, marks=() if x in QUICK else pytest.mark.slow) for x in AFTER_THE_DATA]
)
@pytest.mark.usefixtures("no_collections", "no_figures")
def test_no_thread_and_no_lock_stays(
    shapes: Path, small: Callable[..., RunConfig], tmp_path: Path, where: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    config, resume = small("train.epochs=1", "train.test_each_epoch=true"), where == "_recover_best"
    if resume:
        fit(config, shapes, tmp_path, device="cpu", quiet=True)
    before, kept = set(threading.enumerate()), []
    monkeypatch.setattr(module, where, _fail)
    for again in (False, True):  # with a lock that stayed, the second one had another error
        how = {"resume": resume, "overwrite": again and not resume}
        with pytest.raises(ConfigError, match="for the test") as caught:
            fit(config, shapes, tmp_path, device="cpu", quiet=True, **how)
        kept.append(caught)
        assert set(threading.enumerate()) <= before


@pytest.mark.usefixtures("no_collections", "no_figures")
def test_an_error_of_one_part_closes_the_others(
    shapes: Path, small: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(threading.enumerate())
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "close", _fail)
        with pytest.raises(ConfigError, match="for the test") as kept:
            fit(small("train.epochs=1"), shapes, tmp_path, device="cpu", quiet=True)
        assert set(threading.enumerate()) <= before
    fit(small("train.epochs=1"), shapes, tmp_path, device="cpu", quiet=True, overwrite=True)
    assert kept


def test_missing_memory_is_explained(
    shapes: Path, small: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*_: Any, **__: Any) -> NoReturn:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(module, "build_state", build)
    with pytest.raises(SlipformError, match=r"train\.batch_size = 40: choose a smaller one"):
        fit(small(), shapes, tmp_path, device="cpu", quiet=True)


@pytest.mark.usefixtures("no_collections")
def test_a_loader_that_cannot_be_built_leaves_no_thread(
    shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(threading.enumerate())
    monkeypatch.setattr("slipform.pipelines.loader.BatchSequence", _fail)
    with pytest.raises(ConfigError, match="for the test"):
        Loader(shapes, augment=Augmentation(image_size=24), batch_size=16, threads=2)
    gc.collect()
    for thread in set(threading.enumerate()) - before:
        thread.join()
    assert set(threading.enumerate()) <= before
