"""The starts of a run, in starts.jsonl: its beginning, and each resume with other settings.

In: a run that begins or is resumed. Out: a line for each start. They tell, for every step, the
settings and the position of its batches, also where a later start changed them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from slipform.pipelines.errors import SlipformError, printable
from slipform.pipelines.files import open_regular, write_whole
from slipform.pipelines.loader import Loader
from slipform.train.config.recipe import parse_config
from slipform.train.config.run_config import RunConfig
from slipform.train.config.toml import to_toml
from slipform.train.machine.distributed import Process
from slipform.train.run.identity import images_of
from slipform.train.run.resume import differences
from slipform.train.run.segments import Segment, Start

__all__ = [
    "STARTS",
    "read_starts",
    "record_start",
    "segment_of",
    "start_of_older",
]

STARTS = "starts.jsonl"


def record_start(
    run: Path,
    step: int,
    config: RunConfig,
    loader: Loader,
    process: Process,
    saved: dict[str, Any] | None = None,
) -> list[str]:
    """Add a start to the file of a run, and remove the starts after its step.

    A start adds no line if the start before predicts it: all settings are equal, and the position
    of the next batch follows from that start. Another data.folder with the same images is no
    change. A damaged file does not end a run: it is replaced.

    A run of an older version has no file. It gets one at its first resume with other settings; the
    file then says nothing about the steps before.

    Args:
        run: The run folder.
        step: Steps done before.
        config: The settings of the run.
        loader: The loader of the training split, at the position of the next batch.
        process: This process.
        saved: The checkpoint from which the run continues. None: the run is new.

    Returns:
        Messages for the user.

    Raises:
        OSError: The file cannot be written.
    """
    start = Start(
        step,
        loader.epoch,
        loader.seen,
        process.world_size,
        loader.executor_name,
        process.device.type,
        loader.num_samples,
        images_of(loader),
        to_toml(config),
    )
    messages: list[str] = []
    if step and saved is not None and not (run / STARTS).exists():
        if _continues(start_of_older(saved, str(saved.get("config"))), start, config):
            return []
        starts = []
    else:
        try:
            starts = [one for one in read_starts(run) if one.step < step]
        except SlipformError:
            starts = []
            messages.append(f"{run / STARTS} was damaged, and has the steps from now on")
    if not starts or not _continues(starts[-1], start, config):
        starts.append(start)
    write_whole(run / STARTS, "".join(f"{json.dumps(asdict(one))}\n" for one in starts))
    return messages


def _continues(before: Start, start: Start, config: RunConfig) -> bool:
    """Whether the steps after `start` are those that follow from the start before."""
    try:
        segment = segment_of(before)
    except SlipformError:
        return False
    place, images = segment.place_of(start.step + 1), (before.images, start.images)
    return (
        (place.epoch, place.seen) == (start.epoch, start.seen)
        and ("" in images or images[0] == images[1])
        and all(
            getattr(before, name) == getattr(start, name)
            for name in ("world_size", "device", "num_samples")
        )
        and before.executor in ("", start.executor)
        # What "auto" has become is in the settings of the first start.
        and not any(now != "auto" for _, now in differences(segment.config, config).values())
    )


def segment_of(start: Start, end: int = 0) -> Segment:
    """The segment that begins with a start.

    Args:
        start: The start.
        end: The last step of the segment.

    Raises:
        SlipformError: The settings of the start are damaged.
    """
    try:
        config = parse_config(start.config, STARTS)
    except SlipformError as error:
        raise SlipformError(
            f"{STARTS}: {error.message.removesuffix('.')}. If a newer version wrote the run, use"
            " that version"
        ) from error
    segment = Segment(start, config, end)
    if type(config.train.batch_size) is not int or not segment.steps_of(start.epoch + 1):
        raise SlipformError(
            f"{STARTS}: batches of train.batch_size = {config.train.batch_size} on"
            f" {start.world_size} processes do not fit {start.num_samples} images"
        )
    return segment


def start_of_older(
    saved: dict[str, Any], config: str, summary: dict[str, Any] | None = None
) -> Start:
    """The first start of a run of an older version, as far as its other files tell.

    Args:
        saved: A checkpoint of the run; {} if there is none.
        config: The settings, as TOML.
        summary: The summary of the run; None if it is not finished.

    Returns:
        The start. Its executor is "", and num_samples is 0, where they are unknown.
    """
    summary, named, position = summary or {}, saved.get("executor"), saved.get("loader")
    named = named if isinstance(named, dict) else {}
    found = position.get("num_samples") if isinstance(position, dict) else 0
    random = saved.get("random")
    states = random if isinstance(random, list) and random else [{}]
    device = (
        named.get("device") or summary.get("device") or ("cuda" if "cuda" in states[0] else "cpu")
    )
    return Start(
        0,
        0,
        0,
        int(summary.get("processes") or len(states)),
        str(named.get("name") or summary.get("executor") or ""),
        str(device).partition(":")[0],
        found if type(found) is int else 0,
        "",
        config,
    )


def read_starts(run: Path) -> list[Start]:
    """Read the starts of a run, the oldest first.

    Args:
        run: The run folder.

    Returns:
        The starts; empty for a run of an older version.

    Raises:
        SlipformError: The file is damaged.
    """
    path = run / STARTS
    if not path.exists():
        return []
    with open_regular(path) as file:
        lines = file.read().decode("utf-8", "replace").splitlines()
    return [_parsed(line, path) for line in lines]


def _parsed(line: str, path: Path) -> Start:
    types = {"int": int, "str": str}
    known = {field.name for field in fields(Start)}
    try:
        values = json.loads(line)
        if others := sorted(values.keys() - known):
            raise SlipformError(
                f"{path} has {', '.join(map(printable, others))}. If a newer version wrote the run,"
                " use that version"
            )
        start = Start(**values)
    except SlipformError:
        raise
    except (AttributeError, ValueError, TypeError, RecursionError) as error:
        raise _damaged(path) from error
    for field in fields(Start):
        value = getattr(start, field.name)
        if type(value) is not types[str(field.type)] or (type(value) is int and value < 0):
            raise _damaged(path)
    if start.world_size < 1 or start.seen > start.num_samples:
        raise _damaged(path)
    return start


def _damaged(path: Path) -> SlipformError:
    return SlipformError(
        f"{path} is damaged: restore a copy, or remove it. Without it, replay takes the settings in"
        " config.toml for all steps."
    )
