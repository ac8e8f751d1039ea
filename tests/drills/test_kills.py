"""kill -9 at random moments of training, in six configurations: it resumes bit for bit."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from slipform.train.config.run_config import RunConfig
from tests.drills.runs import recipe, same_run, train_on
from tests.drills.tasks import small
from tests.drills.warm import Warm, now

Count = Callable[[str], None]
OFTEN = "train.checkpoint_every_steps=1"
CONFIGURATIONS = {
    "host": (OFTEN, "train.epochs=3"),
    "resident": (OFTEN, "data.executor=resident", "train.keep_checkpoints=2"),
    "ema": (OFTEN, "train.ema=0.9", "train.restart_from_best_after=1", "schedule.name=one_cycle"),
    "accumulate": (OFTEN, "train.accumulate=2", "train.batch_size=4", "train.clip_norm=5.0"),
    "muon": ("optimizer.name=muon", "train.epochs=3"),
    "mixup": (OFTEN, "augment.mixup=0.4", "augment.color_jitter.hue=0.1"),
}


def _config(name: str) -> RunConfig:
    return small(*CONFIGURATIONS[name])


def _kills(
    warm: Warm, data: Path, folder: Path, name: str, total: int, seed: int, count: Count
) -> None:
    config, chance = _config(name), random.Random(f"{name} {seed}")
    whole = folder / "whole"
    begin = now()
    assert train_on(warm, data, whole, config).code == 0
    seconds = now() - begin
    path = recipe(folder, config)
    wrong, killed, runs = [], 0, 0
    while killed < total:
        runs += 1
        run = folder / f"run-{runs}"
        messages = []
        for _ in range(3):  # killed up to three times
            resume = (run / "config.toml").exists()
            where = ("--resume", str(run)) if resume else ("--recipe", str(path), "--out", str(run))
            started = warm.start("train", str(data), *where)
            time.sleep(chance.uniform(0, 1.2 * seconds))
            os.kill(started[0], signal.SIGKILL)
            ended = warm.wait(started)
            killed += ended.code == -signal.SIGKILL
            if ended.code not in (0, -signal.SIGKILL):
                messages.append(str(ended))
        ended = train_on(warm, data, run, config)
        found = str(ended) if ended.code else same_run(whole, run)
        wrong += [f"run {runs}: {what}" for what in (*messages, found) if what]
        shutil.rmtree(run)
    count(f"kills {name}: {killed} in {runs} runs, {len(wrong)} wrong")
    assert not wrong, "\n".join(wrong)


def test_a_few_kills(warm: Warm, data: Path, tmp_path: Path, count: Count) -> None:
    _kills(warm, data, tmp_path, "mixup", 2, 0, count)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_many_kills(
    warm: Warm, data: Path, tmp_path: Path, name: str, count: Count,
    amount: Callable[[str, int], int],
) -> None:  # fmt: skip
    """$SLIPFORM_DRILL_KILLS for each configuration."""
    _kills(warm, data, tmp_path, name, amount("kills", 30), amount("seed", 1), count)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_killed_sweep(
    warm: Warm, data: Path, tmp_path: Path, count: Count, amount: Callable[[str, int], int]
) -> None:
    """The runs are separate processes that end with the sweep. The same command continues."""
    text = recipe(tmp_path, small()).read_text()
    path = tmp_path / "sweep.toml"
    path.write_text(
        text + '\n[[runs]]\nname = "a"\n[[runs]]\nname = "b"\n[runs.optimizer]\nlr = 0.1\n'
    )

    def arguments(out: Path) -> tuple[str, ...]:
        return (
            "train",
            str(data),
            "--recipe",
            str(path),
            "--all",
            "--jobs",
            "2",
            "--out",
            str(out),
        )

    begin = now()
    whole = warm.run(*arguments(tmp_path / "whole"))
    assert whole.code == 0, whole
    seconds, chance = now() - begin, random.Random(5)
    kills, wrong = amount("sweep_kills", 6), []
    for number in range(kills):
        out = tmp_path / f"sweep-{number}"
        started = warm.start(*arguments(out))
        time.sleep(chance.uniform(0, seconds))
        os.kill(started[0], signal.SIGKILL)
        warm.wait(started)
        ended = _when_its_runs_have_ended(warm, arguments(out))
        found = [ended] if ended else []
        for run in ("a/seed-0", "b/seed-0") if not ended else ():
            found += [same_run(tmp_path / "whole" / run, out / run)]
        wrong += [f"kill {number}: {what}" for what in found if what]
    count(f"kills sweep: {kills}, {len(wrong)} wrong")
    assert not wrong, "\n".join(wrong)


def _when_its_runs_have_ended(warm: Warm, arguments: tuple[str, ...]) -> str:
    """Wait for the runs of a killed sweep. They get SIGTERM and write a checkpoint. Until then they
    hold their folders, and a new sweep is refused with a message."""
    while True:
        ended = warm.run(*arguments)
        if ended.code == 0:
            return ""
        if not any(text in ended.output for text in ("is working in", "contains a run already")):
            return str(ended)
        time.sleep(1)
