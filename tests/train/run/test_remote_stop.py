"""SIGTERM while the object store does not answer: a checkpoint, exit code 130, an exact resume.

The patience is a day: a run that waited for the store would never end.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slipform.pipelines import prefetch, stopping
from slipform.pipelines.errors import Interrupted, StorageError
from slipform.train.config.run_config import RunConfig
from slipform.train.config.toml import to_toml
from slipform.train.run import checkpoint
from slipform.train.run.loop import fit
from tests.object_server import Fault, Proxy
from tests.pipelines.mirror.stored import fetch_in_each_epoch, upload
from tests.processes import finish, torchrun, wait_for
from tests.train.run.interrupted import assert_same, terminate

pytestmark = pytest.mark.usefixtures("no_figures")
Small = Callable[..., RunConfig]


@pytest.fixture
def url(object_store: Proxy, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """`shapes` in the store, and a small cache, so that samples are fetched in each epoch."""
    fetch_in_each_epoch(monkeypatch, shapes, tmp_path / "cache")
    monkeypatch.setenv("SLIPFORM_STORAGE_PATIENCE", "86400")
    return upload(shapes, object_store.new_folder())


def _sigterm_in_a_failing_wait(monkeypatch: pytest.MonkeyPatch, store: Proxy) -> None:
    """Send SIGTERM once, when the main thread waits for samples, and a request has failed."""
    usual = stopping.is_asked

    def asked() -> bool:
        if any(one.status == 0 for one in store.requests):
            monkeypatch.setattr(prefetch, "is_asked", usual)
            terminate()
        return usual()

    monkeypatch.setattr(prefetch, "is_asked", asked)


@pytest.mark.parametrize(
    ("part", "after", "accumulate", "kind"),
    [
        ("train", 150, 3, "reset"),
        pytest.param("val", 5, 1, "reset", marks=pytest.mark.slow),
        pytest.param("train", 60, 1, "reset", marks=pytest.mark.slow),
        pytest.param("train", 400, 1, "stall", marks=pytest.mark.slow),
        pytest.param("test", 0, 1, "reset", marks=pytest.mark.slow),
    ],
)
def test_a_run_that_waits_for_the_store_stops(
    part: str,
    after: int,
    accumulate: int,
    kind: str,
    url: str,
    shapes: Path,
    small: Small,
    object_store: Proxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = small(f"train.accumulate={accumulate}")
    fit(config, shapes, tmp_path / "whole", device="cpu", quiet=True)
    # The first requests for a beton read its index.
    fault = Fault(kind, f"GET .*{part}.beton bytes=", times=100_000, after=4 + after)
    object_store.faults = [fault]
    with monkeypatch.context() as patch:
        _sigterm_in_a_failing_wait(patch, object_store)
        with pytest.raises(Interrupted, match=r"a checkpoint was written.*train --resume") as end:
            fit(config, url, tmp_path / "run", device="cpu", quiet=True)
    assert end.value.exit_code == 130
    saved = checkpoint.load_newest(tmp_path / "run", pytest.fail)
    assert saved is not None
    assert f"after step {saved['state']['step']};" in end.value.message
    object_store.faults = []
    fit(config, url, tmp_path / "run", device="cpu", resume=True, quiet=True)
    assert_same(tmp_path / "run", tmp_path / "whole")


def test_a_lost_store_does_not_lose_steps(
    url: str,
    shapes: Path,
    small: Small,
    object_store: Proxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run whose patience ends writes a checkpoint, too."""
    monkeypatch.setenv("SLIPFORM_STORAGE_PATIENCE", "1")
    object_store.faults = [Fault("reset", "GET .*train.beton bytes=", times=100_000, after=150)]
    with pytest.raises(StorageError, match="continue a run with: train --resume RUN"):
        fit(small(), url, tmp_path / "run", device="cpu", quiet=True)
    saved = checkpoint.load_newest(tmp_path / "run", pytest.fail)
    assert saved is not None
    step = saved["state"]["step"]
    assert 0 < step < 6
    assert not (tmp_path / "run/checkpoints" / f"step-{step + 1:08d}").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_stop_together(
    url: str,
    shapes: Path,
    small: Small,
    object_store: Proxy,
    tmp_path: Path,
) -> None:
    """Both wait, or one waits for samples and the other one for it. torchrun would end them by
    SIGKILL 30 s after SIGTERM."""
    recipe, run = tmp_path / "small.toml", tmp_path / "run"
    recipe.write_text(to_toml(small("train.batch_size=20", "train.epochs=3")))

    def words(data: Any, out: Path) -> list[object]:
        return ["-m", "slipform.train.cli", data, "--recipe", recipe, "--out", out, "--device=cpu"]

    finish(torchrun(2, *words(shapes, tmp_path / "whole")))
    object_store.faults = [Fault("reset", "GET .*train.beton bytes=", times=100_000, after=40)]
    process = torchrun(2, *words(url, run))
    try:
        wait_for(process, lambda: any(one.status == 0 for one in object_store.requests))
        time.sleep(3)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate()
    finally:
        process.kill()
    assert "a checkpoint was written" in errors
    object_store.faults = []
    finish(torchrun(2, "-m", "slipform.train.cli", "--resume", run))
    assert_same(run, tmp_path / "whole")
