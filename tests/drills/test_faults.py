"""The k-th file call of a command fails, for every k, in eight ways.

After each fault: the files are the complete old ones or the complete new ones. The exit code is 0
only with the new ones. The message is one of Slipform's and names a path. The next run works and
leaves no temporary files.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from slipform.pipelines.manifest import read_manifest
from slipform.preprocess.verify import find_faults
from slipform.train.records import read_summary, write_summary
from slipform.train.run import checkpoint
from slipform.train.run.best import load_best, save_best
from slipform.train.run.folder import run_config
from tests.drills import tasks
from tests.drills.runs import same_run, train_on
from tests.drills.warm import MODES, Ended, Warm

Count = Callable[[str], None]
# Every n-th pair of a call and a way to fail: all of them, or a sample in the default suite.
STEPS = [pytest.param(1, marks=[pytest.mark.slow, pytest.mark.timeout(3600)], id="all")]
SHAPES = ("--num-train", "6", "--num-val", "2", "--num-test", "2", "--classes", "2")
TINY = (*SHAPES, "--min-size", "16", "--max-size", "18", "--threads", "1")


def _faults(num_calls: int, step: int) -> Iterator[tuple[int, str]]:
    pairs = [(number, mode) for number in range(1, num_calls + 1) for mode in MODES]
    yield from pairs[::step]


def _said_well(ended: Ended, folder: Path) -> str:
    """The fault in the exit code or message of a command; "" if there is none."""
    if ended.code == -9:
        return ""
    if ended.code < 0:
        return f"signal {-ended.code}"
    if "Traceback" in ended.output or "Exception ignored" in ended.output:
        return "a traceback"
    if ended.code not in (0, 1):
        return "an exit code that is neither 0 nor 1"
    if ended.code == 1 and not ("Error: " in ended.output and str(folder) in ended.output):
        return "a message without a path"
    return ""


class Drill:
    """One kind of file: the task that writes it, its states before and after, and the next run.

    Args:
        warm: The warm process.
        folder: All written files are below it.
        old: Restores the old state of `folder`.
        task: The task and its arguments.
        state: Returns "old", "new", or the fault.
        after: Does the next run. Returns "" or the fault.
    """

    def __init__(
        self,
        warm: Warm,
        folder: Path,
        old: Callable[[], None],
        task: tuple[str, ...],
        state: Callable[[], str],
        after: Callable[[], str] = lambda: "",
    ) -> None:
        self._warm, self._folder, self._old, self._task = warm, folder, old, task
        self._state, self._after = state, after

    def run(self, step: int, count: Count) -> None:
        """Try every `step`-th fault. The test fails with a list of all wrong outcomes."""
        self._old()
        undisturbed = self._warm.drill(self._folder, 0, "count", *self._task)
        assert undisturbed.code == 0, undisturbed
        assert self._state() == "new"
        assert undisturbed.num_calls > 5
        wrong, done = [], 0
        for number, mode in _faults(undisturbed.num_calls, step):
            self._old()
            ended = self._warm.drill(self._folder, number, mode, *self._task)
            done += ended.fired
            found = [_said_well(ended, self._folder)]
            state = self._state()
            if state not in ("old", "new"):
                found.append(f"state: {state}")
            if ended.code == 0 and state != "new":
                found.append(f"exit 0, but the {state} state")
            found.append(self._after())
            wrong += [f"call {number}, {mode}: {what}: {ended}" for what in found if what]
        count(
            f"faults {self._task[0]}: {done} in {undisturbed.num_calls} calls, {len(wrong)} wrong"
        )
        assert done
        assert not wrong, f"{len(wrong)} of {done}\n" + "\n".join(wrong[:20])


@pytest.mark.parametrize("step", [*STEPS, 521])
def test_prep(warm: Warm, tmp_path: Path, step: int, count: Count) -> None:
    parent, kept = tmp_path / "in", tmp_path / "kept"
    out = parent / "data"
    first = warm.run("prep", "shapes", "--out", str(kept), *TINY, "--seed", "0")
    assert first.code == 0, first
    task = ("prep", "shapes", "--out", str(out), *TINY, "--seed", "1")

    def old() -> None:
        shutil.rmtree(parent, ignore_errors=True)
        shutil.copytree(kept, out)

    def state() -> str:
        manifest = read_manifest(out)
        faults = list(find_faults(out, manifest, threads=1))
        return str(faults) if faults else ("old", "new")[manifest.options["seed"]]

    def after() -> str:
        again = warm.run(*task)
        if again.code or os.listdir(parent) != ["data"]:
            return f"the next run: {again}, {os.listdir(parent)}"
        return "" if state() == "new" else "the next run wrote something else"

    Drill(warm, parent, old, task, state, after).run(step, count)


@pytest.mark.parametrize("step", [*STEPS, 53])
def test_a_checkpoint(warm: Warm, tmp_path: Path, step: int, count: Count) -> None:
    run = tmp_path / "run"

    def old() -> None:
        shutil.rmtree(run, ignore_errors=True)
        run.mkdir()
        checkpoint.save(run, 1, tasks.content(1), keep=1)

    def state() -> str:
        found = checkpoint.load_newest(run, pytest.fail)
        if found is None:
            return "nothing"
        same = torch.equal(found["state"]["w"], tasks.content(found["step"])["state"]["w"])
        return ("old", "new")[found["step"] - 1] if same else "mixed"

    def after() -> str:
        again = warm.run("save_checkpoint", str(run), "2")
        return "" if again.code == 0 and state() == "new" else f"the next run: {again}"

    Drill(warm, run, old, ("save_checkpoint", str(run), "2"), state, after).run(step, count)


@pytest.mark.parametrize("step", [*STEPS, 53])
def test_the_best_weights(warm: Warm, tmp_path: Path, step: int, count: Count) -> None:
    run = tmp_path / "run"
    task = ("save_weights", str(run), "2")

    def old() -> None:
        shutil.rmtree(run, ignore_errors=True)
        run.mkdir()
        save_best(run, tasks.weights(1), {"epoch": "1"})

    def state() -> str:
        found = load_best(run)
        number = int(found["n"])
        same = torch.equal(found["w"], tasks.weights(number)["w"])
        return ("old", "new")[number - 1] if same else "mixed"

    Drill(warm, run, old, task, state).run(step, count)


def _some_files(folder: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    """The content of files. table.md has no link to the figure if that could not be drawn."""
    found = {name: (folder / name).read_bytes() for name in names}
    return {name: text.replace(b"\n\n![curves](curves.png)", b"") for name, text in found.items()}


@pytest.mark.parametrize("step", [*STEPS, 149])
@pytest.mark.parametrize(
    "kind", ["settings", "summary", pytest.param("tables", marks=pytest.mark.slow)]
)
def test_small_files(
    warm: Warm, data: Path, tmp_path: Path, kind: str, step: int, count: Count
) -> None:
    """config.toml and dataset.json, summary.json, the tables of a sweep: each complete, old or
    new."""
    folder = tmp_path / "out"
    names, task = {
        "settings": (("config.toml", "dataset.json"), ("settings", str(folder), str(data), "5")),
        "summary": (("summary.json",), ("summary", str(folder), "2")),
        "tables": (("table.md", "table.csv"), ("tables", str(folder), "new")),
    }[kind]
    before = {
        "settings": ("settings", str(folder), str(data), "4"),
        "summary": ("summary", str(folder), "1"),
        "tables": ("tables", str(folder), "old"),
    }[kind]
    folder.mkdir()
    (folder / "config.toml").write_text("")
    if kind == "tables":
        for name in "ab":
            (folder / name / "seed-0").mkdir(parents=True)
            write_summary(folder / name / "seed-0", tasks.SUMMARY)
    assert warm.run(*before).code == 0
    old_files = _some_files(folder, names)
    if kind == "tables":
        write_summary(folder / "a" / "seed-0", {**tasks.SUMMARY, "test_accuracy": 0.9})
    assert warm.run(*task).code == 0
    new_files = _some_files(folder, names)
    assert old_files != new_files

    def old() -> None:
        for name, content in old_files.items():
            (folder / name).write_bytes(content)

    def state() -> str:
        found = _some_files(folder, names)
        for name in names:
            if found[name] not in (old_files[name], new_files[name]):
                return f"{name} is neither"
        if kind == "settings":
            run_config(folder)
        elif kind == "summary":
            assert read_summary(folder)
        return "new" if found == new_files else "old"

    def after() -> str:
        again = warm.run(*task)
        if kind == "settings":  # this process holds the lock of the folder, as a run does
            left = [name for name in os.listdir(folder) if name.endswith("slipform-tmp")]
            return f"left behind: {left}" if left else "" if again.code == 0 else str(again)
        return "" if again.code == 0 and state() == "new" else str(again)

    Drill(warm, folder, old, task, state, after).run(step, count)


@pytest.mark.parametrize(
    "step", [pytest.param(3, marks=[pytest.mark.slow, pytest.mark.timeout(7200)]), 997]
)
def test_a_run_resumes_after_any_fault(
    warm: Warm, data: Path, tmp_path: Path, step: int, count: Count,
    amount: Callable[[str, int], int],
) -> None:  # fmt: skip
    """A whole `train`: it resumes, and ends like an undisturbed run, bit for bit."""
    whole = tmp_path / "whole"
    assert train_on(warm, data, whole).code == 0
    runs = tmp_path / "runs"
    runs.mkdir()
    arguments = ("train", str(data), "--recipe", str(tmp_path / "small.toml"), "--out")
    undisturbed = warm.drill(runs, 0, "count", *arguments, str(runs / "count"))
    assert undisturbed.code == 0, undisturbed
    wrong, done = [], 0
    for number, mode in _faults(undisturbed.num_calls, amount("train_step", step)):
        run = runs / f"{number}-{mode.replace(' ', '-')}"
        ended = warm.drill(runs, number, mode, *arguments, str(run))
        done += ended.fired
        found = [_said_well(ended, runs)]
        again = train_on(warm, data, run)
        found.append(f"the next run: {again}" if again.code else same_run(whole, run))
        wrong += [f"call {number}, {mode}: {what}: {ended}" for what in found if what]
        shutil.rmtree(run, ignore_errors=True)
    count(f"faults train: {done} in {undisturbed.num_calls} calls, {len(wrong)} wrong")
    assert done
    assert not wrong, f"{len(wrong)} of {done}\n" + "\n".join(wrong[:20])
