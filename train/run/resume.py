"""What a checkpoint holds, and how a run goes on from one.

In: a run's state, loader and configuration. Out: one dictionary of tensors and plain values;
loading it gives the same run, bit for bit, or, with another configuration, one that says what
changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from slipform.pipelines.errors import ConfigError, SlipformError
from slipform.pipelines.loader import Loader
from slipform.train.config.recipe import parse_config
from slipform.train.config.run_config import RunConfig
from slipform.train.config.toml import to_toml
from slipform.train.machine.distributed import Process
from slipform.train.run.counters import Counters, EpochTotals
from slipform.train.step.state import TrainState

VERSION = 1
# A saved state fits only what it was saved from. The rest of a configuration may change between
# parts of a run.
_FIXED = (
    "model",
    "optimizer.name",
    "optimizer.rest",
    "optimizer.decay_all",
    "optimizer.norm_bias_lr",
    "train.seed",
    "data.block",
)


def content(
    config: RunConfig, state: TrainState, counters: Counters, loader: Loader, process: Process
) -> dict[str, Any]:
    """Everything of a run, for a checkpoint.

    Every process must call it: each has its own random numbers.

    Args:
        config: The run's settings.
        state: Weights, optimizer, progress.
        counters: What the loop has counted.
        loader: The position in the training data.
        process: This process.

    Returns:
        Tensors and plain values, which `restore` takes.
    """
    return {
        "version": VERSION,
        "config": to_toml(config),
        "state": state.state_dict(),
        "counters": counters.state_dict(),
        "loader": loader.state_dict(),
        "random": process.all_gather(_random_state(process)),
    }


def restore(
    saved: dict[str, Any],
    config: RunConfig,
    state: TrainState,
    loader: Loader,
    process: Process,
    say: Callable[[str], None],
    *,
    other_data: bool = False,
) -> Counters:
    """Go on where `saved` was written: changes state and loader.

    Args:
        saved: A checkpoint's content.
        config: The run's settings from now on.
        state: Gets weights, optimizer and progress.
        loader: Goes to the saved position.
        process: This process; its random numbers go on, too.
        say: Is told of each change of a setting.
        other_data: The loader may have another number of images; the present epoch starts again
            then.

    Returns:
        The counters.

    Raises:
        ConfigError: The configuration changed in what cannot change, or the checkpoint is of
            another dataset.
    """
    if saved.get("version") != VERSION:
        raise ConfigError(
            f"the checkpoint has version {saved.get('version')}, this program reads {VERSION}:"
            " start again with --overwrite"
        )
    with _checked():
        before = parse_config(saved["config"], "the checkpoint")
    changes = differences(before, config)
    for name, (before, now) in changes.items():
        if name in _FIXED or name.partition(".")[0] in _FIXED:
            raise ConfigError(
                f"{name} was {before}, now it is {now}: a run cannot go on with that. Start a new"
                " one; its model.weights may name this run's folder."
            )
        say(f"changed: {name} was {before}, is now {now}")
    with _checked():
        state.load_state_dict(saved["state"])
        position = saved["loader"]
        moved = other_data and position["num_samples"] != loader.num_samples
        if moved:
            position = {**position, "seen": 0, "num_samples": loader.num_samples}
        loader.load_state_dict(position)
        random = saved["random"]
        if process.rank < len(random):  # a process more than before keeps its new seed
            _set_random_state(random[process.rank], process)
        counters = Counters.from_checkpoint(saved)
        before_images, seen = saved["loader"]["num_samples"], saved["loader"]["seen"]
    if moved:
        text = f"changed: {loader.num_samples} training images, {before_images} before"
        if seen:
            counters.epoch = EpochTotals()
            text += f"; epoch {loader.epoch + 1} starts again from its first image"
        say(text)
    if len(random) != process.world_size:
        say(f"changed: {process.world_size} processes, {len(random)} before")
    return counters


@contextmanager
def _checked() -> Iterator[None]:
    """Inside, a checkpoint that is whole but not of this run ends in a ConfigError."""
    try:
        yield
    except SlipformError:
        raise
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        first = str(error).strip().splitlines()
        raise ConfigError(
            f"the checkpoint is not of this run, or of another version of this program"
            f" ({type(error).__name__}: {first[0] if first else ''}). Remove it to go back to the"
            " one before it, or start again with --overwrite."
        ) from error


def differences(before: RunConfig, now: RunConfig) -> dict[str, tuple[Any, Any]]:
    """The settings that differ. The place of the data does not count.

    Args:
        before: The settings of the checkpoint or run folder.
        now: The settings that are asked for.

    Returns:
        Name -> (before, now): {"train.epochs": (20, 30)}.
    """
    old, new = before.model_dump(), now.model_dump()
    found = {}
    for section, values in new.items():
        if isinstance(values, dict):
            before_section = old[section]
            for name, value in values.items():
                # Another optimizer, schedule or loss has settings that the one before has not.
                if (
                    name in before_section
                    and before_section[name] != value
                    and (section, name) != ("data", "folder")
                ):
                    found[f"{section}.{name}"] = (before_section[name], value)
    return found


def _random_state(process: Process) -> dict[str, torch.Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if process.device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(process.device)
    return states


def _set_random_state(states: dict[str, torch.Tensor], process: Process) -> None:
    torch.set_rng_state(states["cpu"])
    if process.device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], process.device)
