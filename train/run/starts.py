"""The starts of a run, in starts.jsonl: its beginning, and each resume with other settings.

In: a run that begins or is resumed. Out: a line for each start. They tell, for every step, the
settings and the position of its batches, also where a later start changed them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from slipform.pipelines.errors import SlipformError
from slipform.pipelines.files import open_regular, write_whole
from slipform.pipelines.loader import Loader
from slipform.train.config.recipe import parse_config
from slipform.train.config.run_config import RunConfig
from slipform.train.config.toml import to_toml
from slipform.train.machine.distributed import Process

__all__ = ["STARTS", "Start", "images_of", "read_starts", "record_start"]

STARTS = "starts.jsonl"


@dataclass(frozen=True)
class Start:
    """The state in which a run began, or was resumed.

    Attributes:
        step: Steps done before.
        epoch: The epoch of the next batch, from 0.
        seen: Samples of that epoch that were seen before, over all processes.
        world_size: The number of processes.
        executor: The executor of the training split.
        device: The type of the device: "cpu" or "cuda".
        num_samples: Samples of the training split or fold.
        images: The SHA-256 of the labels and checksums of the splits that they come from, with
            commas between them; "" if unknown.
        config: All settings, as TOML.
    """

    step: int
    epoch: int
    seen: int
    world_size: int
    executor: str
    device: str
    num_samples: int
    images: str
    config: str


def record_start(
    run: Path, step: int, config: RunConfig, loader: Loader, process: Process
) -> list[str]:
    """Add a start to the file of a run, and remove the starts after its step.

    A start adds no line if all settings of the batches are those of the start before: the positions
    follow from that one. A damaged file does not end a run: it is replaced.

    Args:
        run: The run folder.
        step: Steps done before.
        config: The settings of the run.
        loader: The loader of the training split, at the position of the next batch.
        process: This process.

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
    if step and not (run / STARTS).exists():
        return []  # a run of an older version: nothing is known of the steps before
    messages: list[str] = []
    try:
        starts = [one for one in read_starts(run) if one.step < step]
        if not starts or _of_batches(start) != _of_batches(starts[-1]):
            starts.append(start)
    except SlipformError as error:
        starts, messages = (
            [start],
            [f"{error.message} Replaced: it has the steps from now on"],
        )
    write_whole(run / STARTS, "".join(f"{json.dumps(asdict(one))}\n" for one in starts))
    return messages


def images_of(loader: Loader) -> str:
    """The identity of the stored images of a loader; see `Start`.

    Args:
        loader: The loader of the training split.
    """
    found = [loader.manifest.split(name).index_sha256 for name in loader.samples.splits]
    return ",".join(found) if all(found) else ""


def _of_batches(start: Start) -> tuple[object, ...]:
    """The settings that determine the batches, and the number of epochs."""
    config = parse_config(start.config, STARTS)
    train, data = config.train, config.data.model_copy(update={"folder": ""})
    own = (
        *(train.seed, train.batch_size, train.accumulate, train.precision, train.epochs),
        train.image_sizes,
    )
    return (replace(start, step=0, epoch=0, seen=0, config=""), config.augment, data, own)


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
    try:
        values = json.loads(line)
        start = Start(**values)
    except (ValueError, TypeError, RecursionError) as error:
        raise _damaged(path) from error
    for field in fields(Start):
        value = getattr(start, field.name)
        if type(value) is not types[str(field.type)] or (type(value) is int and value < 0):
            raise _damaged(path)
    return start


def _damaged(path: Path) -> SlipformError:
    return SlipformError(
        f"{path} is damaged. Without it, replay takes the settings in config.toml for all steps."
    )
