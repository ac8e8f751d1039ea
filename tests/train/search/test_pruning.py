"""Pruning of trials: what Optuna is told, which trials end, and that a search goes on exactly."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from slipform.pipelines.errors import ConfigError, Interrupted
from slipform.train.config.recipe import Recipe
from slipform.train.search import study as searching
from slipform.train.search.pruning import PRUNERS
from slipform.train.search.space import parse_ranges
from slipform.train.search.study import JOURNAL, run_search
from slipform.train.sweep.jobs import Job
from tests.train.conftest import SMALL
from tests.train.search.test_search import trials

EPOCHS = 8
RANGES = ["optimizer.lr=1e-3..1e-1:log"]


def score(job: Job, epoch: int) -> float:
    """The score of an epoch: the nearer the rate is to 0.02, the higher."""
    return epoch / 10 / (1 + abs(job.config.optimizer.lr - 0.02) * 100)


class Epochs:
    """Trials without training, which write an epoch at a time. `stops`: the number of the trial
    that somebody stops after epoch 4."""

    def __init__(self, stops: int = -1) -> None:
        self.stops, self.commands = stops, list[list[str]]()

    def __call__(
        self, jobs: Iterable[Job], command: Callable[[Job], Sequence[str]],
        ended: Callable[[Job, int], str], is_hopeless: Callable[[Job], bool], **_: Any,
    ) -> None:  # fmt: skip
        for job in jobs:
            self.commands.append(list(command(job)))
            (job.folder / "checkpoints").mkdir(parents=True, exist_ok=True)
            (job.folder / "config.toml").touch()
            ended(job, self._code(job, is_hopeless))
            if job.folder.name == f"trial-{self.stops:03d}":
                raise Interrupted("stopped")

    def _code(self, job: Job, is_hopeless: Callable[[Job], bool]) -> int:
        path = job.folder / "metrics.jsonl"
        done = len(path.read_text().splitlines()) if path.is_file() else 0
        for epoch in range(done + 1, EPOCHS + 1):
            line = {
                "kind": "epoch",
                "step": epoch,
                "epoch": epoch,
                "val_accuracy": score(job, epoch),
            }
            line |= {"train_loss": 1.0, "train_accuracy": 0.5, "val_loss": 1.0}
            line |= {"train_seconds": 1.0, "images_per_second": 1.0, "data_wait_share": 0.0}
            with open(path, "a") as file:
                file.write(json.dumps(line) + "\n")
            is_stopped = epoch == 4 and job.folder.name == f"trial-{self.stops:03d}"
            if is_stopped or is_hopeless(job):
                return Interrupted.exit_code
        summary = {
            "test_accuracy": 0.5, "val_accuracy": score(job, EPOCHS), "best_epoch": 1,
            "epochs": EPOCHS, "seconds": 1.0, "images_per_second": 1.0, "machine": "", "torch": "",
            "precision": "", "compiled": False, "executor": "host",
        }  # fmt: skip
        (job.folder / "summary.json").write_text(json.dumps(summary))
        return 0


def go(shapes: Path, out: Path, runs: Any, patch: pytest.MonkeyPatch, prune: str) -> None:
    patch.setattr(searching, "run_jobs", runs)
    run_search(
        Recipe("small", SMALL), shapes, out, parse_ranges(RANGES), [f"train.epochs={EPOCHS}"],
        trials=16, prune=prune, quiet=True,
    )  # fmt: skip


def frozen(out: Path) -> list[Any]:
    import optuna
    from optuna.storages.journal import JournalFileBackend

    storage = optuna.storages.JournalStorage(JournalFileBackend(str(out / JOURNAL)))
    return list(optuna.load_study(study_name="slipform", storage=storage).get_trials())


@pytest.mark.parametrize("prune", PRUNERS)
def test_each_pruner_decides_from_the_scores_of_the_epochs(
    prune: str, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    needs: Callable[[str], None],
) -> None:  # fmt: skip
    needs("optuna")
    go(shapes, tmp_path, Epochs(), monkeypatch, prune)
    rows, known = trials(tmp_path), frozen(tmp_path)
    states = [row["state"] for row in rows]
    assert set(states) == ({"complete"} if prune == "none" else {"complete", "pruned"})
    assert [one.state.name.lower() for one in known] == states
    for one in known if prune != "none" else []:
        lr = one.params["optimizer.lr"]
        for epoch, value in one.intermediate_values.items():
            assert value == epoch / 10 / (1 + abs(lr - 0.02) * 100)
        assert list(one.intermediate_values) == list(range(1, one.last_step + 1))
        folder = tmp_path / f"trial-{one.number:03d}"
        assert not (folder / "checkpoints").exists()
        is_pruned = one.state.name == "PRUNED"
        assert (folder / "summary.json").is_file() != is_pruned
        assert (one.last_step < EPOCHS) == is_pruned
    if prune == "median":
        best = max(known, key=lambda one: one.value)
        assert best.state.name == "COMPLETE"
        assert states[:5] == ["complete"] * 5
        assert min(one.last_step for one in known) >= 2
    assert (" (pruned)" in (tmp_path / "trials.md").read_text()) == (prune != "none")


@pytest.mark.parametrize("prune", ["median", "hyperband"])
def test_an_interrupted_search_with_a_pruner_goes_on_exactly(
    prune: str, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    needs: Callable[[str], None],
) -> None:  # fmt: skip
    needs("optuna")
    go(shapes, tmp_path / "whole", Epochs(), monkeypatch, prune)
    whole = frozen(tmp_path / "whole")
    stops = next(one.number for one in reversed(whole) if one.last_step == EPOCHS)
    with pytest.raises(Interrupted):
        go(shapes, tmp_path / "parts", Epochs(stops), monkeypatch, prune)
    assert frozen(tmp_path / "parts")[stops].state.name == "RUNNING"
    go(shapes, tmp_path / "parts", again := Epochs(), monkeypatch, prune)
    assert "--resume" in again.commands[0]
    assert trials(tmp_path / "parts") == trials(tmp_path / "whole")
    for one, other in zip(whole, frozen(tmp_path / "parts"), strict=True):
        assert one.intermediate_values == other.intermediate_values
    with pytest.raises(ConfigError, match=f"prune was {prune}, not none"):
        go(shapes, tmp_path / "parts", Epochs(), monkeypatch, "none")


def test_a_decision_outlives_a_search_that_is_killed(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needs: Callable[[str], None]
) -> None:
    needs("optuna")
    from optuna.study import Study
    from optuna.trial import TrialState

    class Killed(BaseException):
        pass

    tell = Study.tell

    def die(study: Study, *args: Any, **named: Any) -> Any:
        if named.get("state") == TrialState.PRUNED:
            raise Killed
        return tell(study, *args, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Study, "tell", die)
        with pytest.raises(Killed):
            go(shapes, tmp_path, Epochs(), patch, "median")
    number = next(one.number for one in frozen(tmp_path) if one.state.name == "RUNNING")
    go(shapes, tmp_path, again := Epochs(), monkeypatch, "median")
    assert trials(tmp_path)[number]["state"] == "pruned"
    assert not any(f"trial-{number:03d}" in " ".join(command) for command in again.commands)


@pytest.mark.parametrize("text", ["train.epochs=1..3", "data.fold=1/5,2/5", "data.fold_seed=0..3"])
def test_trials_that_cannot_be_compared_are_refused(
    text: str, shapes: Path, tmp_path: Path, needs: Callable[[str], None]
) -> None:
    needs("optuna")
    with pytest.raises(ConfigError, match="epoch by epoch"):
        run_search(
            Recipe("small", SMALL), shapes, tmp_path / "x", parse_ranges([text]), prune="median",
            quiet=True,
        )  # fmt: skip
    assert not (tmp_path / "x").exists()


def test_a_hopeless_job_is_stopped_alone(tmp_path: Path, shapes: Path) -> None:
    """The process of one job ends by SIGTERM; the other one goes on."""
    import sys

    from rich.console import Console

    from slipform.train.config.recipe import SweepRun
    from slipform.train.config.resolve import resolve
    from slipform.train.sweep import jobs as sweeping

    config = resolve(Recipe("small", SMALL), [], None)
    entry = SweepRun("trial", {}, {})
    pair = [Job(entry, config, tmp_path / name) for name in ("bad", "good")]
    codes: dict[str, int] = {}

    def start(job: Job, *_: Any) -> Any:
        import subprocess

        wait = "import time; time.sleep(600)" if job.folder.name == "bad" else "input()"
        stdin = subprocess.DEVNULL if job.folder.name == "bad" else subprocess.PIPE
        started[job.folder.name] = process = subprocess.Popen(
            [sys.executable, "-c", wait], stdin=stdin
        )
        return process

    def ended(job: Job, code: int) -> str:
        codes[job.folder.name] = code
        if job.folder.name == "bad":
            started["good"].communicate(b"\n")
        return ""

    started: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweeping, "_start", start)
        sweeping.run_jobs(
            pair, lambda job: [], ended, num_at_once=2, console=Console(quiet=True),
            is_hopeless=lambda job: job.folder.name == "bad",
        )  # fmt: skip
    assert codes == {"bad": -15, "good": 0}
