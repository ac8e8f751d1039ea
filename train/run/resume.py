"""The content of a checkpoint, and how a run continues from it.

In: the state, loader and configuration of a run. Out: one dictionary of tensors and plain values.
Loading it gives exactly the same run; if the configuration has changed, messages say what changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from slipform.pipelines.errors import ConfigError, SlipformError
from slipform.pipelines.loader import Loader
from slipform.train.config.recipe import parse_config
from slipform.train.config.run_config import RunConfig
from slipform.train.config.toml import to_toml
from slipform.train.machine.distributed import Process
from slipform.train.run.checkpoint import checkpoints
from slipform.train.run.counters import Counters, EpochTotals
from slipform.train.run.identity import images_in
from slipform.train.run.samples import SampleRecord
from slipform.train.step.data import global_batch_size
from slipform.train.step.state import Best, TrainState

__all__ = ["check_same_start", "content", "differences", "epoch_of", "executor_of", "restore"]

_VERSION = 1
# The saved state depends on these settings. All other settings may change when a run is resumed.
_FIXED = (
    "model",
    "optimizer.name",
    "optimizer.rest",
    "optimizer.decay_all",
    "optimizer.norm_bias_lr",
    "optimizer.layer_decay",
    "train.seed",
    "data.block",
    "data.sampling",
    "data.fold",
    "data.fold_seed",
    "data.fold_rule",
)


def content(
    config: RunConfig,
    state: TrainState,
    counters: Counters,
    loader: Loader,
    evaluation: dict[str, str],
    process: Process,
) -> dict[str, Any]:
    """Collect the state of a run for a checkpoint.

    Args:
        config: The settings of the run.
        state: Weights, optimizers, progress.
        counters: The counters of the loop.
        loader: The position in the training data.
        evaluation: The executors of the evaluation, by split.
        process: This process; every process calls this, since each has its own random numbers.

    Returns:
        Tensors and plain values, for `restore`.
    """
    return {
        "version": _VERSION,
        "config": to_toml(config),
        "state": state.state_dict(),
        "counters": counters.state_dict(),
        "loader": loader.state_dict(),
        "executor": {"name": loader.executor_name, "device": process.device.type},
        "evaluation": {**evaluation, "device": process.device.type},
        "val": _images_of_val(loader),
        "random": process.all_gather(_random_state(process)),
    }


def check_same_start(run: Path, process: Process, *, resume: bool) -> None:
    """Check that all processes begin a run, or continue it with the same checkpoints.

    The machines of a run may see different folders, or the storage that they share may show a new
    file later on some of them.

    Args:
        run: The run folder.
        process: This process; every process calls this function.
        resume: Whether this process continues the run.

    Raises:
        SlipformError: They do not.
    """
    newest = next((path.name for path in checkpoints(run)), "no checkpoint") if resume else "no run"
    found = process.all_gather(newest)
    other = next((rank for rank, name in enumerate(found) if name != found[0]), 0)
    if other:
        raise SlipformError(
            f"process 0 finds {found[0]} in {run}, and process {other} finds {found[other]}: all"
            " machines need the same run folder, on storage that they share. If they share it, it"
            " does not show the newest files everywhere yet: start the command again."
        )


def executor_of(saved: dict[str, Any], config: RunConfig, process: Process) -> str:
    """The executor that a resumed run needs, so that its pixels stay the same.

    Args:
        saved: The content of a checkpoint. Those of version 0.1 do not name an executor.
        config: The settings of the run.
        process: This process.

    Returns:
        data.executor; if that is "auto": the executor before, if it was on such a device.
    """
    before = saved.get("executor")
    if config.data.executor != "auto" or not isinstance(before, dict):
        return config.data.executor
    return str(before.get("name")) if before.get("device") == process.device.type else "auto"


def epoch_of(saved: dict[str, Any]) -> int:
    """The epoch of the next training batch, which gives the size of the images.

    Args:
        saved: The content of a checkpoint, which may be damaged; `restore` checks it.

    Returns:
        The epoch, from 1.
    """
    position = saved.get("loader")
    epoch = position.get("epoch") if isinstance(position, dict) else None
    return epoch + 1 if type(epoch) is int and epoch >= 0 else 1


def restore(
    saved: dict[str, Any],
    config: RunConfig,
    state: TrainState,
    loader: Loader,
    process: Process,
    say: Callable[[str], None],
    *,
    other_data: bool = False,
    samples: SampleRecord | None = None,
) -> Counters:
    """Restore a run from a checkpoint.

    Args:
        saved: The content of a checkpoint.
        config: The present settings of the run.
        state: Changed in place: weights, optimizers, progress.
        loader: Set to the saved position.
        process: This process; its random numbers are restored, too.
        say: Called with a message for each changed setting.
        other_data: Whether the loader may have another number of images; the present epoch then
            starts again.
        samples: The observations of the images, which continue; None: the run makes none.

    Returns:
        The counters of the loop.

    Raises:
        ConfigError: A setting has changed that must not change, or the checkpoint does not fit the
            run or the dataset.
    """
    if saved.get("version") != _VERSION:
        raise ConfigError(
            f"the checkpoint has version {saved.get('version')}; this version of Slipform reads"
            f" {_VERSION}. Start again with --overwrite."
        )
    with _checked():
        saved_config = parse_config(saved["config"], "the checkpoint")
    changes = differences(saved_config, config)
    for name, (before, now) in changes.items():
        if _is_fixed(name, before, now):
            raise ConfigError(
                f"{name} was {before}, now it is {now}: a run cannot continue with that change."
                " Start a new run, with model.weights = this run's folder if you like."
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
        if process.rank < len(random):  # an additional process keeps its new seed
            _set_random_state(random[process.rank], process)
        counters = Counters.from_checkpoint(saved)
        if samples is not None and not moved:
            samples.load_state_dict(saved.get("counters", {}).get("samples"))
        counters.samples = samples
        before_images, seen = saved["loader"]["num_samples"], saved["loader"]["seen"]
    if saved.get("val", now := _images_of_val(loader)) != now and state.epoch < config.train.epochs:
        # Results on other images cannot be compared. The next epoch is the best one so far.
        state.best, state.epochs_since_best, state.best_weights = Best(), 0, None
        say("changed: val has other images: the best epoch is one of those from now on")
    if moved:
        text = f"changed: {loader.num_samples} training images, {before_images} before"
        if seen:
            counters.epoch = EpochTotals()
            text += f"; epoch {loader.epoch + 1} starts again from its first image"
        say(text)
    if len(random) != process.world_size:
        text = f"changed: {process.world_size} processes, {len(random)} before"
        was, now = global_batch_size(saved_config, len(random)), loader.global_batch_size
        if was != now and not config.train.split_batches:
            text += f"; a batch now has {now} images over all processes, {was} before"
            text += " (train.split_batches = true keeps the number)"
        say(text)
    return counters


def _images_of_val(loader: Loader) -> str:
    """The identity of the images that select the best epoch; see `images_in`. "": there are none.

    Args:
        loader: The loader of the training split.
    """
    manifest, samples = loader.manifest, loader.samples
    splits = ("val",) if samples.chosen is None else samples.splits  # of a fold: train and val
    return images_in(manifest, [name for name in splits if name in manifest.splits])


@contextmanager
def _checked() -> Iterator[None]:
    """Raise ConfigError for the errors of a complete checkpoint that is not of this run."""
    try:
        yield
    except (SlipformError, MemoryError):
        raise
    except Exception as error:  # values of any type may be where others are expected
        first = str(error).strip().splitlines()
        raise ConfigError(
            f"the checkpoint is not of this run, or of another version of Slipform"
            f" ({type(error).__name__}: {first[0] if first else ''}). Remove it to use the one"
            " before it, or start again with --overwrite."
        ) from error


def differences(before: RunConfig, now: RunConfig) -> dict[str, tuple[Any, Any]]:
    """The settings that differ between two configurations, without data.folder.

    Args:
        before: The settings of the checkpoint or run folder.
        now: The present settings.

    Returns:
        Name -> (before, now): {"train.epochs": (20, 30)}.
    """
    old, new = before.model_dump(), now.model_dump()
    found = {}
    for section, values in new.items():
        if isinstance(values, dict):
            before_section = old[section]
            for name, value in values.items():
                # A new optimizer, schedule or loss may have settings that the old one lacks.
                if (
                    name in before_section
                    and before_section[name] != value
                    and (section, name) != ("data", "folder")
                ):
                    found[f"{section}.{name}"] = (before_section[name], value)
    return found


def _is_fixed(name: str, before: Any, now: Any) -> bool:
    """Whether the saved state depends on a setting."""
    if name == "train.select":  # the loss of the best epoch is that of val, or that of training
        return "train_loss" in (before, now)
    return name in _FIXED or name.partition(".")[0] in _FIXED


def _random_state(process: Process) -> dict[str, torch.Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if process.device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(process.device)
    return states


def _set_random_state(states: dict[str, torch.Tensor], process: Process) -> None:
    torch.set_rng_state(states["cpu"])
    if process.device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], process.device)
