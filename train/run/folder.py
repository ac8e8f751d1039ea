"""The run folder: what lies there, and who may write to it.

In: a path. Out: the folder made, or a clear word why not; `config.toml` and a copy of
`dataset.json`, so that the run's classes and settings are known without its data.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from slipform.pipelines.errors import ConfigError, SlipformError
from slipform.pipelines.manifest import Manifest, write_manifest
from slipform.train.config.resolve import RunConfig, read_config, to_toml
from slipform.train.run.checkpoint import BEST, FOLDER
from slipform.train.run.record import METRICS, SUMMARY

CONFIG = "config.toml"
FIGURES = "figures"


def check(run: Path, *, resume: bool, overwrite: bool) -> None:
    """Raises ConfigError where a run in this folder would mix two runs, or where there is none to
    resume."""
    exists = (run / CONFIG).is_file()
    if resume and not exists:
        raise ConfigError(
            f"{run} is no run folder: it has no {CONFIG}. Start the run without --resume."
        )
    if exists and not resume and not overwrite:
        raise ConfigError(
            f"{run} holds a run already. Go on with it (--resume {run}), replace it (--overwrite)"
            " or take another --out."
        )


def prepare(run: Path, config: RunConfig, manifest: Manifest, *, resume: bool) -> None:
    """Make the folder, once everything else of the run has been found right: a mistake leaves what
    was there."""
    if not resume:
        _clear(run)
    run.mkdir(parents=True, exist_ok=True)
    write_manifest(run, manifest)
    temporary = run / f"{CONFIG}.tmp"
    temporary.write_text(to_toml(config), encoding="utf-8")
    temporary.replace(run / CONFIG)


def _clear(run: Path) -> None:
    """Remove what a run writes, and nothing else."""
    for name in (FOLDER, FIGURES):
        shutil.rmtree(run / name, ignore_errors=True)
    for path in (run / METRICS, run / SUMMARY, run / BEST, *run.glob("events.out.tfevents.*")):
        path.unlink(missing_ok=True)


def run_config(run: Path) -> RunConfig:
    """The configuration that a run folder was made with."""
    if not (run / CONFIG).is_file():
        raise SlipformError(
            f"{run} is no run folder: it has no {CONFIG}. Give a folder that train has written,"
            " such as runs/first."
        )
    return read_config(run / CONFIG)


def free_name(parent: Path, name: str) -> Path:
    """parent/name, or parent/name-2, -3, ...: the first that is not there yet."""
    plain = name.strip("/").replace("/", "-")
    number = 1
    while (parent / (plain if number == 1 else f"{plain}-{number}")).exists():
        number += 1
    return parent / (plain if number == 1 else f"{plain}-{number}")
