"""Replacing "auto" in the settings: batch size, precision, memory format, compilation, executor.

In: a configuration, the dataset's manifest, this process. Out: the configuration without "auto",
and messages with the reasons. The main process decides for all processes.
"""

from __future__ import annotations

from pathlib import Path

from slipform.pipelines.errors import SlipformError
from slipform.pipelines.manifest import Manifest
from slipform.train.config.run_config import RunConfig
from slipform.train.machine.device import has_bfloat16
from slipform.train.machine.distributed import Process
from slipform.train.run.autosize import find_batch_size
from slipform.train.run.decide import Decision, decide
from slipform.train.run.folder import run_config
from slipform.train.run.pick_executor import pick_executor
from slipform.train.step.data import batch_sizes

__all__ = ["with_batch_size", "without_auto"]

# Where "auto" becomes a value when a run begins. A checkpoint has that of data.executor.
_CHOSEN = (
    ("train", "batch_size"),
    ("train", "precision"),
    ("train", "channels_last"),
    ("train", "compile"),
    ("data", "decoder_share"),
)


def without_auto(
    config: RunConfig,
    manifest: Manifest,
    process: Process,
    messages: list[str],
    resumed: Path | None = None,
) -> tuple[RunConfig, str]:
    """Replace "auto" in the settings of a run.

    A resumed run keeps what "auto" became, also with --set train.precision=auto.

    Args:
        config: The settings of the run.
        manifest: The manifest of the dataset.
        process: This process; every process calls this function.
        messages: Messages for the user are added to this list.
        resumed: The folder of a run that is resumed. None: the run is new.

    Returns:
        The settings without "auto", and the reason for the precision, the memory format, the
        compilation and the executor; "" if they were not "auto" or the run is resumed. The executor
        stays "auto" if the images fit into memory, which the executor checks.
    """
    if resumed is not None:
        config = _as_before(config, resumed, process)
        return with_batch_size(config, manifest, process, messages), ""
    config = with_batch_size(config, manifest, process, messages)
    train = config.train
    if train.split_batches:  # measure what one process does
        own = min(batch_sizes(config, process))
        config = config.replace("train.split_batches", False).replace("train.batch_size", own)
    decision, (executor, why) = process.broadcast_object(
        _decisions(config, manifest, process) if process.is_main else None
    )
    config, reasons = decision.config, [text for text in (decision.reason, why) if text]
    if train.split_batches:
        config = config.replace("train.batch_size", train.batch_size)
        config = config.replace("train.split_batches", True)
    if executor:
        config = config.replace("data.executor", executor)
    messages += [f"auto: {text}" for text in reasons]
    return config, "; ".join(reasons)


def _decisions(
    config: RunConfig, manifest: Manifest, process: Process
) -> tuple[Decision, tuple[str, str]]:
    """Of the steps, and of the executor, for which there is the rest of the time."""
    decision = decide(config, manifest, process)
    return decision, pick_executor(config, manifest, process, decision.seconds)


def _as_before(config: RunConfig, resumed: Path, process: Process) -> RunConfig:
    """The settings of a resumed run, with its earlier choice for each "auto"."""
    try:
        before = run_config(resumed)
    except SlipformError:  # config.toml is damaged, and the settings are those of a checkpoint
        before = config
    for section, name in _CHOSEN:
        if getattr(getattr(config, section), name) == "auto":
            value = getattr(getattr(before, section), name)
            config = config.replace(f"{section}.{name}", value)
    # Version 0.1 kept "auto", and used bfloat16 on every device for which torch has kernels.
    if config.train.precision == "auto" and has_bfloat16(process.device):
        config = config.replace("train.precision", "bf16")
    return config


def with_batch_size(
    config: RunConfig, manifest: Manifest, process: Process, messages: list[str]
) -> RunConfig:
    """Replace "auto" in train.batch_size.

    Args:
        config: The settings of the run.
        manifest: The manifest of the dataset.
        process: This process; every process calls this function.
        messages: A message for the user is added to this list.
    """
    if config.train.batch_size != "auto":
        return config
    found = process.broadcast_object(
        find_batch_size(config, manifest, process) if process.is_main else None
    )
    images = found.images * (process.world_size if config.train.split_batches else 1)
    messages.append(f"train.batch_size = auto: {images} images ({found.reason})")
    return config.replace("train.batch_size", images)
