"""`prep DATASET --shards N --engine ray`, on a Ray of this machine with several workers."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from slipform.pipelines.dataset import open_dataset
from slipform.pipelines.errors import DatasetError
from slipform.preprocess.build import build_dataset
from slipform.preprocess.engines import ray as engine
from slipform.preprocess.engines.run import write_shards
from slipform.preprocess.engines.work import Outcome, ShardWork
from slipform.preprocess.shard_record import Shard
from slipform.preprocess.source import SampleSource
from tests.preprocess.engines.sources import (
    MIDDLE,
    MIDDLE_SHARD,
    defective,
    dying,
    listed,
    noted,
    work,
)
from tests.preprocess.made import COUNT, described, made
from tests.processes import runs, wait_for

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def cluster(needs: Callable[[str], None]) -> Iterator[None]:
    """A Ray with three workers, which can import the tests."""
    needs("ray")
    ray = importlib.import_module("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(address="local", num_cpus=3, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


def _outcomes(job: ShardWork, samples: SampleSource, counts: dict[int, list[int]]) -> list[Outcome]:
    def report(number: int, images: int) -> None:
        counts.setdefault(number, []).append(images)

    shards = [Shard(number, COUNT) for number in range(1, COUNT + 1)]
    found = [*engine.run(job, samples, shards, report)]
    return sorted(found, key=lambda outcome: outcome.shard.number)


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("portable", [False, True])
def test_a_worker_killed_in_the_middle_is_replaced(tmp_path: Path, portable: bool) -> None:
    """Ray repeats its task. The dataset equals the one of one prep, sample for sample."""
    pids, out = tmp_path / "pids", tmp_path / "shards"
    counts: dict[int, list[int]] = {}
    opened = partial(dying, pids, 1)
    with opened() as samples:
        found = _outcomes(work(out, opened, portable=portable), samples, counts)
    assert [outcome.error for outcome in found] == [""] * COUNT
    assert all(outcome.written for outcome in found)
    assert len({*pids.read_text(encoding="utf-8").splitlines()}) == 2
    assert sum(outcome.images for outcome in found) == 46
    assert set(counts) == {*range(1, COUNT + 1)}
    merged = write_shards(work(out), made(), "ray")  # all are finished
    whole = build_dataset(made(), tmp_path / "whole")
    assert described(merged) == described(whole)
    one, several = open_dataset(tmp_path / "whole"), open_dataset(out)
    for split in one.splits:
        for index in range(len(one.beton(split))):
            assert one.label(split, index) == several.label(split, index)
            a, b = (data.beton(split).bytes_of(index).tobytes() for data in (one, several))
            assert a == b
    assert not [name for name in os.listdir(out) if name.startswith(".")]


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("portable", [False, True])
def test_the_list_is_made_once(tmp_path: Path, portable: bool) -> None:
    """And by each task if it is not valid in other processes."""
    notes, out = tmp_path / "notes", tmp_path / "shards"
    opened = partial(noted, notes)
    with opened() as samples:
        manifest = write_shards(work(out, opened, portable=portable), samples, "ray")
    lines = notes.read_text(encoding="utf-8").splitlines()
    lists = 1 if portable else 1 + COUNT
    assert lines.count("list") == lists
    assert lines.count("size") == 46 * (1 if portable else COUNT)
    assert described(manifest) == described(build_dataset(made(), tmp_path / "whole"))


@pytest.mark.usefixtures("cluster")
def test_failed_shards_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unusable sample, a worker that dies each time, and a defect."""
    bad = (MIDDLE,)
    with pytest.raises(DatasetError, match=rf"shard {MIDDLE_SHARD}/5: (.|\n)*train made:{MIDDLE}"):
        write_shards(work(tmp_path / "bad", partial(listed, bad)), made(bad=bad), "ray")
    monkeypatch.setattr(engine, "_RETRIES", 1)
    opened = partial(dying, tmp_path / "pids", 9)
    with pytest.raises(DatasetError, match=rf"shard {MIDDLE_SHARD}/5: the process .* died 2 times"):
        write_shards(work(tmp_path / "dead", opened), made(), "ray")
    with pytest.raises(DatasetError, match=rf"shard {MIDDLE_SHARD}/5: .*TypeError: "):
        write_shards(work(tmp_path / "defect", defective), made(), "ray")
    for folder in ("bad", "dead", "defect"):
        names = os.listdir(tmp_path / folder)
        assert not [name for name in names if name.startswith(".") or name == "dataset.json"]
        assert sum(name.startswith("shard-") for name in names) == COUNT - 1


@pytest.mark.usefixtures("cluster")
def test_a_task_reserves_at_most_the_largest_machine(tmp_path: Path) -> None:
    """It would wait forever for more CPUs."""
    write_shards(work(tmp_path, threads=64), made(), "ray")
    assert (tmp_path / "dataset.json").is_file()


def test_the_command_and_ctrl_c(tmp_path: Path, needs: Callable[[str], None]) -> None:
    """A Ray of its own, in a folder with a file that would hide a package. Ctrl-C ends all
    processes, and the same command goes on afterwards."""
    needs("ray")
    (tmp_path / "cv2.py").write_text("raise SystemExit('a file of the user was imported')")
    out, count = tmp_path / "data", 40
    sizes = ["--num-train", "4000", "--num-val", "0", "--num-test", "10"]
    options = [*sizes, "--shards", str(count), "--engine", "ray", "--out", "data"]
    command = [sys.executable, "-P", "-m", "slipform.preprocess.cli", "shapes", *options]
    environment = {**os.environ, "RAY_ADDRESS": "local"}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for(process, lambda: out.is_dir() and any(out.glob("shard-*.json")))
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
        assert process.stderr is not None
        errors = process.stderr.read()
    assert "Traceback" not in errors, errors
    assert not [name for name in os.listdir(out) if name.startswith(".")]
    while [child for child in children if runs(child)]:  # pytest's time limit ends the test
        time.sleep(0.1)
    finished = {path.name: path.stat().st_mtime_ns for path in out.glob("shard-*.json")}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=800
    )
    assert done.returncode == 0, done.stderr
    assert f"({count}/{count} shards, 4,010/4,010 images" in done.stderr
    after = {path.name: path.stat().st_mtime_ns for path in out.glob("shard-*.json")}
    assert finished.items() <= after.items()
    assert len(open_dataset(out).beton("train")) == 4000
