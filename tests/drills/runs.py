"""Runs of a drill: start, resume, compare.

In: run folders. Out: "" if a disturbed run ended like the undisturbed one, else the difference.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from slipform.train.config.run_config import RunConfig
from slipform.train.config.toml import to_toml
from slipform.train.records import read_metrics, read_summary
from slipform.train.run.best import load_best
from slipform.train.run.checkpoint import load_newest
from tests.drills.tasks import small
from tests.drills.warm import Ended, Warm

_TIMES = ("train_seconds", "images_per_second", "data_wait_share")


def recipe(folder: Path, config: RunConfig) -> Path:
    """Write the settings as a recipe file."""
    path = folder / "small.toml"
    path.write_text(to_toml(config), encoding="utf-8")
    return path


def train_on(warm: Warm, data: Path, run: Path, config: RunConfig | None = None) -> Ended:
    """Resume a run, or start it if there is none yet."""
    path = recipe(_parent(run), config or small())
    if (run / "config.toml").exists():
        return warm.run("train", "--resume", str(run))
    return warm.run("train", str(data), "--recipe", str(path), "--out", str(run))


def _parent(run: Path) -> Path:
    return run.parent if run.parent.name != "runs" else run.parent.parent


def same_run(whole: Path, run: Path, *, checkpoints_too: bool = True) -> str:
    """The difference between a finished run and the undisturbed one, without times.

    checkpoints_too: False if a sweep may have removed those of the finished run."""
    for kind in ("step", "epoch"):
        want, got = (
            [{k: v for k, v in line.items() if k not in _TIMES} for line in read_metrics(x, kind)]
            for x in (whole, run)
        )
        if want != got:
            return f"the lines of {kind} differ: {len(want)} and {len(got)}"
    if not _same(load_best(whole), load_best(run)):
        return "the best weights differ"
    ends = [load_newest(x, lambda _: None) for x in (whole, run)]
    if (ends[0] is None) != (ends[1] is None) and checkpoints_too:
        return "one has no checkpoint"
    for name in ("state", "loader", "random"):
        if ends[0] and ends[1] and not _same(ends[0][name], ends[1][name]):
            return f"the last checkpoints differ in {name}"
    accuracies = [(read_summary(x) or {}).get("test_accuracy") for x in (whole, run)]
    if None in accuracies or accuracies[0] != accuracies[1]:
        return f"test accuracies {accuracies}"
    left = [
        str(path) for path in run.rglob("*") if path.name.endswith(("slipform-tmp", "whole.pt"))
    ]
    return f"left behind: {left}" if left else ""


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b)
