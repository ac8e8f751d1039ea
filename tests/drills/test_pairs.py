"""Every pair of commands that write, at the same time in one folder: one is refused with a clear
error, or both give right results."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from slipform.models.weight_file import read_weights
from slipform.pipelines.manifest import read_manifest
from slipform.preprocess.verify import find_faults
from tests.drills.runs import recipe, same_run, train_on
from tests.drills.tasks import small
from tests.drills.warm import Ended, Warm

Count = Callable[[str], None]
TINY = ("--num-train", "12", "--num-val", "4", "--num-test", "4", "--classes", "2", "--min-size",
        "16", "--max-size", "18", "--threads", "1")  # fmt: skip


def _both(warm: Warm, first: tuple[str, ...], second: tuple[str, ...]) -> list[Ended]:
    started = [warm.start(*first), warm.start(*second)]
    return [warm.wait(one) for one in started]


def _refused(ended: Ended, folder: Path) -> bool:
    return (
        ended.code == 1
        and "Error: " in ended.output
        and str(folder) in ended.output
        and "Traceback" not in ended.output
    )


def _check(pair: list[Ended], folder: Path) -> int:
    """Check that at least one succeeded and the others were refused. Returns the number that
    succeeded."""
    right = [ended.code == 0 for ended in pair]
    assert any(right), "\n".join(map(str, pair))
    for ended in pair:
        assert ended.code == 0 or _refused(ended, folder), ended
    return sum(right)


@pytest.fixture(params=[1, pytest.param(15, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def rounds(request: pytest.FixtureRequest) -> int:
    """The number of repeats of each pair."""
    return int(request.param)


def test_prep_twice(warm: Warm, tmp_path: Path, rounds: int, count: Count) -> None:
    out, both = tmp_path / "in" / "data", 0
    for _ in range(rounds):
        tasks = [("prep", "shapes", "--out", str(out), *TINY, "--seed", seed) for seed in "12"]
        pair = _both(warm, tasks[0], tasks[1])
        both += _check(pair, out) == 2
        manifest = read_manifest(out)
        assert not list(find_faults(out, manifest, threads=1))
        if pair[0].code or pair[1].code:
            assert str(manifest.options["seed"]) == ("1" if pair[0].code == 0 else "2")
        assert [path.name for path in out.parent.iterdir()] == ["data"]
    count(f"pairs prep and prep: {rounds} times, {both} times both")


def test_train_twice(
    warm: Warm, data: Path, tmp_path: Path, rounds: int, count: Count
) -> None:  # fmt: skip
    """Two new runs, and two resumed runs, in one folder."""
    whole, run, both = tmp_path / "whole", tmp_path / "run", 0
    assert train_on(warm, data, whole).code == 0
    begin = ("train", str(data), "--recipe", str(tmp_path / "small.toml"), "--out", str(run))
    for _ in range(rounds):
        shutil.rmtree(run, ignore_errors=True)
        assert _check(_both(warm, begin, begin), run) == 1
        assert same_run(whole, run) == ""
        (run / "summary.json").unlink()
        resume = ("train", "--resume", str(run))
        both += _check(_both(warm, resume, resume), run) == 2
        assert same_run(whole, run) == ""
    count(f"pairs train and train: {rounds} times; resume and resume: {rounds}, {both} times both")


def test_train_beside_readers(
    warm: Warm, data: Path, tmp_path: Path, rounds: int, count: Count
) -> None:
    """A resumed run, and `validate --figures` and `export` into its folder."""
    whole, run = tmp_path / "whole", tmp_path / "run"
    config = small("train.epochs=3")
    assert train_on(warm, data, whole, config).code == 0
    longer = ("train", "--resume", str(run), "--set", "train.epochs=3")
    both = 0
    for number in range(rounds):
        shutil.rmtree(run, ignore_errors=True)
        assert train_on(warm, data, run, small()).code == 0
        reader = [
            ("export", str(run), "--format", "safetensors"),
            ("validate", str(run), "--figures", str(run / "figures"), "--device", "cpu"),
        ][number % 2]
        pair = _both(warm, longer, reader)
        both += _check(pair, run) == 2
        if pair[0].code:  # refused, since the other held the folder
            assert warm.run(*longer).code == 0
        assert same_run(whole, run) == ""
    count(f"pairs train and validate or export: {rounds} times, {both} times both")


def test_export_twice(warm: Warm, data: Path, tmp_path: Path, rounds: int, count: Count) -> None:
    run, both = tmp_path / "run", 0
    assert train_on(warm, data, run).code == 0
    export = ("export", str(run), "--format", "safetensors")
    for _ in range(rounds):
        both += _check(_both(warm, export, export), run) == 2
        assert read_weights(run / "model.safetensors")[0]
        assert not list(run.glob(".*slipform-tmp"))
    count(f"pairs export and export: {rounds} times, {both} times both")


def test_profiles_twice(warm: Warm, tmp_path: Path, rounds: int, count: Count) -> None:
    """Two writers of the profile, as `bench tune` writes it: no finding is lost."""
    path = tmp_path / "tune.json"
    pair = _both(
        warm,
        ("profiles", str(path), "one", str(20 * rounds)),
        ("profiles", str(path), "two", str(20 * rounds)),
    )
    assert [ended.code for ended in pair] == [0, 0], "\n".join(map(str, pair))
    kept = json.loads(path.read_text())["profiles"]
    count(f"pairs of profiles: {2 * 20 * rounds} written, {len(kept)} kept")
    assert len(kept) == 2 * 20 * rounds


@pytest.fixture
def sweep(data: Path, tmp_path: Path) -> Callable[[str], tuple[str, ...]]:
    """sweep("out"): the command of a sweep of two runs in the folder `out`."""
    path = tmp_path / "sweep.toml"
    path.write_text(
        recipe(tmp_path, small()).read_text()
        + '\n[[runs]]\nname = "a"\n[[runs]]\nname = "b"\n[runs.optimizer]\nlr = 0.1\n'
    )
    command = ("train", str(data), "--recipe", str(path), "--all", "--out")
    return lambda name: (*command, str(tmp_path / name))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_sweep_twice(
    warm: Warm, sweep: Callable[[str], tuple[str, ...]], tmp_path: Path, count: Count
) -> None:
    out = tmp_path / "sweep"
    assert warm.run(*sweep("whole")).code == 0
    # Both succeed where the second one begins after the end of the first, and finds all runs done.
    both = _check(_both(warm, sweep("sweep"), sweep("sweep")), out) == 2
    for run in ("a/seed-0", "b/seed-0"):
        assert same_run(tmp_path / "whole" / run, out / run) == ""
    count(f"pairs sweep and sweep: once, {int(both)} times both")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_sweep_beside_others(
    warm: Warm, data: Path, sweep: Callable[[str], tuple[str, ...]], tmp_path: Path, count: Count
) -> None:
    """A sweep that trains another seed, and commands that write into one of its runs."""
    out, kept, both = tmp_path / "sweep", tmp_path / "kept", 0
    run, path = out / "a" / "seed-0", tmp_path / "sweep.toml"
    longer = (*sweep("sweep"), "--seeds", "2")
    others = [
        ("validate", str(run), "--figures", str(run / "figures"), "--device", "cpu"),
        ("export", str(run), "--format", "safetensors"),
        ("train", str(data), "--recipe", f"{path}:a", "--out", str(run)),
        ("train", str(data), "--recipe", f"{path}:b", "--out", str(out / "b" / "seed-1"),
         "--set", "train.seed=1"),
    ]  # fmt: skip
    assert warm.run(*sweep("sweep")).code == 0
    shutil.copytree(out, kept)
    for other in others:
        shutil.rmtree(out)
        shutil.copytree(kept, out)
        both += _check(_both(warm, longer, other), out) == 2
        assert warm.run(*longer).code == 0  # it does what was refused before
        for name in ("a/seed-0", "b/seed-0"):
            assert same_run(kept / name, out / name) == ""
        table = (out / "table.csv").read_text().splitlines()
        assert [line.split(",")[:2] for line in table[1:]] == [["a", "2"], ["b", "2"]]
    count(f"pairs sweep and validate, export, train: {len(others)}, {both} times both")
