"""The run folder: what lies there, and who may write to it.

In: a path. Out: the folder made and locked, or a clear word why not; `config.toml` and a copy of
`dataset.json`, so that the run's classes and settings are known without its data.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from slipform.pipelines.errors import ConfigError, SlipformError
from slipform.pipelines.files import locked, open_regular, remove_orphans, write_whole
from slipform.pipelines.manifest import Manifest, write_manifest
from slipform.train.config.recipe import read_config
from slipform.train.config.run_config import RunConfig
from slipform.train.config.toml import to_toml
from slipform.train.figures.draw import FOLDER as FIGURES
from slipform.train.records import METRICS, SUMMARY
from slipform.train.run.best import BEST
from slipform.train.run.checkpoint import FOLDER

CONFIG = "config.toml"
LOCK = ".lock"
_HOLDER = "another train, export or validate"


def check(run: Path, held: ExitStack, *, resume: bool, overwrite: bool) -> bool:
    """Lock an existing folder.

    Args:
        run: The run folder; it may not exist yet.
        held: Holds the lock until it closes.
        resume: The run in it goes on.
        overwrite: A run in it may be replaced.

    Returns:
        True where the folder exists and is locked now.

    Raises:
        SlipformError: Another process works there.
        ConfigError: There is no run to resume, or there is one that must not be replaced.
    """
    if resume and not (run / CONFIG).exists():
        raise ConfigError(
            f"{run} is no run folder: it has no {CONFIG}. Start the run without --resume."
        )
    exists = run.is_dir()
    if exists:
        _lock(run, held)
    if (run / CONFIG).exists() and not resume and not overwrite:
        raise ConfigError(
            f"{run} holds a run already. Go on with it (--resume {run}), replace it (--overwrite)"
            " or take another --out."
        )
    return exists


def prepare(
    run: Path,
    held: ExitStack,
    config: RunConfig,
    manifest: Manifest,
    note: str = "",
    *,
    is_locked: bool,
    resume: bool,
    overwrite: bool,
) -> None:
    """Make the folder, and write its settings and its copy of dataset.json.

    Call it when everything else of the run has been found right: a mistake leaves what was there.

    Args:
        run: The run folder.
        held: Holds the lock of a folder that is new.
        config: The run's settings.
        manifest: Its dataset.
        note: Why "auto" became what it is: a comment in config.toml, which stays when a run is
            resumed.
        is_locked: What `check` returned. Without the lock the folder is checked again under it:
            another train may have begun, and ended, there since.
        resume: What is in the folder stays; else what a run writes is removed.
        overwrite: A run in the folder may be replaced.

    Raises:
        SlipformError: Another process has made the folder and works there.
        ConfigError: Another process has made the folder and its run is in it.
    """
    if not is_locked:
        run.mkdir(parents=True, exist_ok=True)
        check(run, held, resume=resume, overwrite=overwrite)
    if not resume:
        _clear(run)
    write_manifest(run, manifest)
    comment = f"# auto: {note}\n" if note else _comment(run / CONFIG)
    write_whole(run / CONFIG, comment + to_toml(config))


def _comment(path: Path) -> str:
    """The comment that begins a configuration, "" where there is none."""
    if not path.exists():
        return ""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(itertools.takewhile(lambda line: line.startswith("#"), lines))


def _lock(run: Path, held: ExitStack) -> None:
    """Hold the folder; nobody else writes there now, so what killed processes left can go."""
    held.enter_context(locked(run / LOCK, _HOLDER))
    for folder in (run, run / FOLDER, run / FIGURES):
        remove_orphans(folder)


@contextmanager
def locked_if_run(folder: Path) -> Iterator[None]:
    """Hold the lock of a run while another command than train writes to `folder`.

    A train that starts meanwhile would remove the command's temporary files.

    Args:
        folder: A run folder, or a folder directly in one; any other folder is not locked.

    Raises:
        SlipformError: Another process works in the run.
    """
    with ExitStack() as held:
        for run in (folder, folder.parent):
            if (run / CONFIG).is_file():
                held.enter_context(locked(run / LOCK, _HOLDER))
                break
        yield


def _clear(run: Path) -> None:
    """Remove what a run writes, and nothing else. Settings go first: without them the folder is no
    run, whenever this is cut short."""
    for path in (
        run / CONFIG,
        run / METRICS,
        run / SUMMARY,
        run / BEST,
        *run.glob("events.out.tfevents.*"),
    ):
        path.unlink(missing_ok=True)
    for name in (FOLDER, FIGURES):
        shutil.rmtree(run / name, ignore_errors=True)


def run_config(run: Path) -> RunConfig:
    """The settings that a run folder was made with.

    Args:
        run: The run folder.

    Raises:
        SlipformError: There are none, or they are not whole: a missing setting would silently
            get its default.
    """
    path = run / CONFIG
    if not path.exists():
        raise SlipformError(
            f"{run} is no run folder: it has no {CONFIG}. Give a folder that train has written,"
            " such as runs/first."
        )
    with open_regular(path):  # a FIFO would block
        pass
    try:
        config = read_config(path)
    except SlipformError as error:
        raise SlipformError(f"{error.message} {_ADVICE}") from error
    if "decode_scale" not in config.data.model_fields_set:
        config = config.replace("data.decode_scale", "off")  # version 0.1 always decoded in full
    missing = sorted(set(RunConfig.model_fields) - config.model_fields_set)
    if missing:
        raise SlipformError(f"{path} is damaged: it has no {', '.join(missing)}. {_ADVICE}")
    return config


_ADVICE = (
    "Put back a copy of this file, or the config.toml of a run with the same settings; else train"
    " again with --overwrite."
)


def free_name(parent: Path, name: str) -> Path:
    """The first of parent/name, parent/name-2, parent/name-3 that is not there yet.

    Args:
        parent: The folder for runs.
        name: Any text; no name leads out of `parent`.
    """
    plain = name.strip("/").replace("/", "-")
    if not plain.strip("."):
        plain = "run"
    number = 1
    while (parent / (plain if number == 1 else f"{plain}-{number}")).exists():
        number += 1
    return parent / (plain if number == 1 else f"{plain}-{number}")
