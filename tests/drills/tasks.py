"""The tasks for children of a warm process: each command, and each file of a run alone.

In: arguments, as text. Out: files; the exit code and messages of the command.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import cv2  # noqa: F401 (imported before forks, as the others here)
import pytest
import torch

from slipform.pipelines.command import Command
from slipform.pipelines.manifest import read_manifest
from slipform.pipelines.profile import write_profile
from slipform.preprocess.cli import main as prep_main
from slipform.train.config.recipe import Recipe, SweepRun
from slipform.train.config.resolve import resolve
from slipform.train.config.run_config import RunConfig
from slipform.train.inference.classifier import Classifier
from slipform.train.records import write_summary
from slipform.train.run import checkpoint, folder
from slipform.train.run.best import save_best
from slipform.train.run.loop import fit
from slipform.train.sweep.table import Row, write_tables
from tests.train.drawing import without_figures

for _module in (  # before forks: it is loaded late otherwise
    "slipform.pipelines.executors.host",
    "slipform.pipelines.executors.resident",
    "slipform.train.inference.export",
    "slipform.train.sweep.sweep",
):
    importlib.import_module(_module)

SMALL: dict[str, dict[str, Any]] = {
    "augment": {"image_size": 16, "resize": 18, "crop": "random", "flip": "horizontal"},
    "model": {"name": "tiny", "options": {"width": 4}},
    "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9},
    "train": {"epochs": 2, "batch_size": 8, "precision": "fp32", "compile": "off"},
    "data": {"threads": 1, "executor": "host"},
}
SUMMARY = {
    "test_accuracy": 0.5, "val_accuracy": 0.5, "best_epoch": 1, "epochs": 2, "seconds": 1.0,
    "images_per_second": 10.0, "machine": "m", "torch": "t", "precision": "fp32",
    "compiled": False, "executor": "host",
}  # fmt: skip


def small(*sets: str) -> RunConfig:
    """A short run of two epochs of a tiny net."""
    return resolve(Recipe("small", SMALL), sets)


def warm_up(folder: Path) -> None:
    """Train and draw once, for all children: modules that are loaded late take 6 s of processor
    time. Raw pixels do not need DALI, which does not work after a fork."""
    sizes = ("--num-train", "16", "--num-val", "8", "--num-test", "8", "--square")
    sides = ("--min-size", "16", "--max-size", "16", "--encoding", "raw")
    prep_main(["shapes", "--out", str(folder), *sizes, *sides], standalone_mode=False)
    for executor in ("host", "resident"):
        config = small(f"data.executor={executor}", "train.epochs=1")
        fit(config, folder, folder / executor, device="cpu", quiet=True)
    Classifier.load(folder / "host", "cpu").evaluate()


def prep(*arguments: str) -> None:
    """The command `prep`."""
    prep_main(list(arguments), prog_name="prep")


def command(name: str, *arguments: str) -> None:
    """A command of `slipform.train.cli`."""
    from slipform.train import cli

    getattr(cli, name)(list(arguments), prog_name=name)


def train(*arguments: str) -> None:
    """The command `train` without its figures, which take longer than the rest."""
    with pytest.MonkeyPatch.context() as patch:
        without_figures(patch)
        command("train", *arguments, "--quiet", "--device", "cpu")


def _as_command(work: Callable[[], object]) -> None:
    """A function that is not a command, with the exit codes and messages of a command."""
    Command("task", callback=work).main([], prog_name="task")


def content(step: int) -> dict[str, Any]:
    """The content of a checkpoint of a step."""
    return {"step": step, "state": {"w": torch.full((3000,), float(step))}}


def weights(step: int) -> dict[str, torch.Tensor]:
    """The best weights of a step."""
    return {"w": torch.full((1000,), float(step)), "n": torch.tensor(step)}


def save_checkpoint(run: str, step: str) -> None:
    """Write a checkpoint, which replaces the previous one."""
    _as_command(lambda: checkpoint.save(Path(run), int(step), content(int(step)), keep=1))


def save_weights(run: str, step: str) -> None:
    """The best weights."""
    _as_command(lambda: save_best(Path(run), weights(int(step)), {"epoch": step}))


def settings(run: str, data: str, seed: str) -> None:
    """Write config.toml and dataset.json of a resumed run."""
    from contextlib import ExitStack

    def work() -> None:
        with ExitStack() as held:
            config = small(f"train.seed={seed}")
            is_locked = folder.check(Path(run), held, resume=True, overwrite=False)
            folder.prepare(
                Path(run), held, config, read_manifest(Path(data)),
                is_locked=is_locked, resume=True, overwrite=False,
            )  # fmt: skip

    _as_command(work)


def summary(run: str, seconds: str) -> None:
    """summary.json."""
    _as_command(lambda: write_summary(Path(run), {**SUMMARY, "seconds": float(seconds)}))


def tables(out: str, title: str) -> None:
    """Write the tables of a sweep."""
    runs = [Path(out) / "a" / "seed-0", Path(out) / "b" / "seed-0"]
    rows = [
        Row(SweepRun(run.parent.name, {"optimizer": {"lr": 0.1}}, {}), small(), 2, [run], {})
        for run in runs
    ]
    _as_command(lambda: write_tables(Path(out), [f"# {title}"], rows))


def profiles(path: str, name: str, count: str) -> None:
    """Write the profile, as `bench tune` does at its end, `count` times with different keys."""
    for number in range(int(count)):
        write_profile(Path(path), f"{name} {number}", {"executor": "host", "threads": number})


def export(*arguments: str) -> None:
    """The command `slipform export`."""
    command("export", *arguments)


def validate(*arguments: str) -> None:
    """The command `validate`."""
    command("validate", *arguments)


def figures(*arguments: str) -> None:
    """The command `slipform figures`."""
    command("figures", *arguments)


def echo(*arguments: str) -> None:
    """A task for the test of the warm process."""
    click.echo(json.dumps(arguments))
