"""The run folder: its files, and the lock of the process that writes to it.

In: a path. Out: the folder, created and locked, or an error. `config.toml` and a copy of
`dataset.json` in it have the settings and the classes of the run, without its data.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from glob import escape
from pathlib import Path

from slipform.pipelines.errors import ConfigError, SlipformError, nearest_path
from slipform.pipelines.files import (
    check_links,
    locked,
    open_regular,
    remove_orphans,
    write_whole,
)
from slipform.pipelines.manifest import FILE_NAME, Manifest, write_manifest
from slipform.train.config.recipe import Recipe, parse_config, read_config
from slipform.train.config.run_config import RunConfig
from slipform.train.config.toml import to_toml
from slipform.train.figures.draw import FOLDER as FIGURES
from slipform.train.records import METRICS, SUMMARY
from slipform.train.records.samples import FOLDER as SAMPLES
from slipform.train.records.sink import written_names
from slipform.train.run.answers import FOLDER as ANSWERS
from slipform.train.run.best import BEST
from slipform.train.run.checkpoint import FOLDER, load_newest
from slipform.train.run.starts import STARTS

__all__ = [
    "CONFIG",
    "LOCK",
    "check",
    "locked_if_run",
    "new_folder",
    "prepare",
    "resumed_recipe",
    "run_config",
]

CONFIG = "config.toml"
LOCK = ".lock"
_HOLDER = "another train, export or validate"
_REPORT = "report.html"  # of the command validate
# What a run and its students write, and a run that replaces it removes. config.toml is the first:
# without it the folder is no run, even if the removal is interrupted.
_FOLDERS = (FOLDER, FIGURES, ANSWERS, SAMPLES)
_OF_RUN = (CONFIG, METRICS, STARTS, SUMMARY, BEST, *_FOLDERS, _REPORT, *written_names())
_FILES = (FILE_NAME, LOCK, *_OF_RUN)  # what is read and written in a run folder
_NEW_SECTIONS = {"records", "distill"}  # runs of version 0.1 lack them
_ADVICE = (
    "If a newer version wrote the run, use that version. If the run has a checkpoint, train"
    " --resume takes the settings from it. Otherwise restore a copy of this file, or train again"
    " with --overwrite."
)


def check(run: Path, held: ExitStack, *, resume: bool, overwrite: bool) -> bool:
    """Lock a run folder if it exists, and check that the run may be written there.

    Args:
        run: The run folder; it may not exist yet.
        held: Holds the lock until it is closed.
        resume: Whether the run in the folder is resumed.
        overwrite: Whether a run in the folder may be replaced.

    Returns:
        Whether the folder exists; it is then locked.

    Raises:
        SlipformError: Another process uses the folder.
        ConfigError: There is no run to resume, or there is a run or a dataset that must not be
            replaced.
    """
    if resume and not (run / CONFIG).exists():
        raise ConfigError(
            f"{run} is not a run folder: it has no {CONFIG}.{nearest_path(run, CONFIG)}"
            " Start the run without --resume."
        )
    exists = run.is_dir()
    if exists:
        _lock(run, held)
    if not resume and (betons := sorted(run.glob("*.beton"))):
        raise ConfigError(
            f"{run} contains a dataset ({betons[0].name}): a run would replace its dataset.json."
            " Give another --out."
        )
    if (run / CONFIG).exists() and not resume and not overwrite:
        raise ConfigError(
            f"{run} contains a run already. Continue it (--resume {run}, or the same command with"
            " --auto-resume), replace it (--overwrite), or give another --out."
        )
    if exists and not resume and not overwrite and (found := _of_a_run(run)):
        raise ConfigError(
            f"{run} is no run folder, and contains {found[0].name}, which a run would replace. Give"
            " another --out, or --overwrite."
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
    """Create the run folder, and write its config.toml and its copy of dataset.json.

    Call it after all other checks of the run: an error before it leaves the folder unchanged.

    Args:
        run: The run folder.
        held: Holds the lock of a new folder until it is closed.
        config: The settings of the run.
        manifest: The manifest of the dataset.
        note: The reasons for the choices of "auto": a comment in config.toml, which stays when the
            run is resumed.
        is_locked: The result of `check`. A folder that did not exist is locked and checked now:
            another train may have begun, and ended, there in the meantime.
        resume: Whether the files in the folder are kept; otherwise the files of a run are removed.
        overwrite: Whether a run in the folder may be replaced.

    Raises:
        SlipformError: Another process has created the folder and uses it.
        ConfigError: Another process has created the folder, and its run is there.
    """
    if not is_locked:
        Path(os.path.realpath(run)).mkdir(parents=True, exist_ok=True)  # `run` may be a link
        check(run, held, resume=resume, overwrite=overwrite)
    if not resume:
        _clear(run)
    write_manifest(run, manifest)
    comment = f"# auto: {note}\n" if note else _comment(run / CONFIG)
    write_whole(run / CONFIG, comment + to_toml(config))


def _comment(path: Path) -> str:
    """The comment at the beginning of a configuration; "" if there is none."""
    if not path.exists():
        return ""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    found = list(itertools.takewhile(lambda line: line.startswith("#"), lines))
    return "".join(f"{line}\n" for line in found) if "".join(found).isprintable() else ""


def _lock(run: Path, held: ExitStack) -> None:
    """Lock the folder, and remove temporary files of killed processes: no other process writes."""
    check_links(run, _FILES)
    held.enter_context(locked(run / LOCK, _HOLDER))
    # Not in ANSWERS: students write there, and do not hold this lock.
    for folder in (run, run / FOLDER, run / FIGURES, run / SAMPLES):
        remove_orphans(folder)


@contextmanager
def locked_if_run(folder: Path, pattern: str) -> Iterator[None]:
    """Hold the lock of a run while a command other than train writes to `folder`.

    Without the lock, a train that starts in the meantime would remove the command's temporary
    files.

    Args:
        folder: A run folder, or a folder directly in one. Any other folder is not locked.
        pattern: The names of the files that the command writes.

    Raises:
        SlipformError: Another process uses the run folder, or something in it that is written is a
            link out of it.
    """
    with ExitStack() as held:
        for run in (folder, folder.parent):
            if (run / CONFIG).is_file():
                check_links(run, (*_FILES, pattern if run == folder else escape(folder.name)))
                held.enter_context(locked(run / LOCK, _HOLDER))
                break
        yield


def _of_a_run(run: Path) -> list[Path]:
    """What stands in a folder and is removed when a run replaces it, config.toml first.

    The folder of a tracker stays: it may have numbers of other runs that are not sent yet.
    """
    paths = [path for name in _OF_RUN for path in run.glob(name)]
    return [
        path for path in paths if path.name in _FOLDERS or path.is_symlink() or not path.is_dir()
    ]


def _clear(run: Path) -> None:
    """Remove the files of a run, and no others."""
    for path in _of_a_run(run):
        if path.name in _FOLDERS:
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def run_config(run: Path) -> RunConfig:
    """Read the settings of the run in a folder.

    Args:
        run: The run folder.

    Raises:
        SlipformError: config.toml is missing, or a section in it is missing: its settings would
            silently get their defaults. Or a file of the run is a link out of the folder.
    """
    path = run / CONFIG
    if not path.exists():
        inside = next(run.glob(f"*/{CONFIG}"), None) or next(run.glob(f"*/*/{CONFIG}"), None)
        example = inside.parent if inside else "runs/first"
        give = f" Give a folder that train wrote, such as {example}."
        raise SlipformError(
            f"{run} is not a run folder: it has no {CONFIG}.{nearest_path(run, CONFIG) or give}"
        )
    check_links(run, _FILES)
    with open_regular(path):  # a FIFO would block
        pass
    try:
        config = read_config(path)
    except SlipformError as error:
        raise SlipformError(f"{error.message.removesuffix('.')}. {_ADVICE}") from error
    missing = sorted(set(RunConfig.model_fields) - _NEW_SECTIONS - config.model_fields_set)
    if missing:
        raise SlipformError(f"{path} is damaged: it has no {', '.join(missing)}. {_ADVICE}")
    return config


def resumed_recipe(run: Path, say: Callable[[str], None]) -> Recipe:
    """Read the settings of a run that is resumed, as a recipe.

    If config.toml is damaged, the settings are those of the newest checkpoint.

    Args:
        run: The run folder.
        say: Called with a message for the user if config.toml is damaged.

    Raises:
        SlipformError: There is no config.toml, or it is damaged and there is no usable checkpoint.
            Or a file of the run is a link out of the folder.
    """
    path = run / CONFIG
    check_links(run, _FILES)
    try:
        config = run_config(run)
    except SlipformError as error:
        saved = load_newest(run, say) if path.is_file() else None
        if saved is None or not isinstance(saved.get("config"), str):
            raise
        say(f"{error.message.removesuffix(_ADVICE)}Using the settings of the newest checkpoint")
        config = parse_config(saved["config"], "the checkpoint")
    return Recipe(str(path), config.model_dump())


@contextmanager
def new_folder(parent: Path, name: str) -> Iterator[Path]:
    """Create the first of parent/name, parent/name-2, parent/name-3 that does not exist yet.

    Two processes never get the same folder. It is removed if no run was begun in it.

    Args:
        parent: The folder for runs.
        name: Any text; slashes in it are replaced, so the path is always in `parent`.

    Yields:
        The new folder.
    """
    plain = name.strip("/").replace("/", "-")
    if not plain.strip("."):
        plain = "run"
    for number in itertools.count(1):
        path = parent / (plain if number == 1 else f"{plain}-{number}")
        with suppress(FileExistsError):
            path.mkdir(parents=True)
            break
    try:
        yield path
    finally:
        if not (path / CONFIG).exists():
            (path / LOCK).unlink(missing_ok=True)
            with suppress(OSError):  # it is not empty
                path.rmdir()
