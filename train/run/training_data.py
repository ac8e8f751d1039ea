"""The data of a run: the loaders of its splits, and the first batch before the clock starts.

In: a configuration, a checkpoint or None, this process. Out: loaders.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from torch import Tensor

from slipform.pipelines.errors import DatasetError
from slipform.pipelines.executors import chosen, tuned
from slipform.pipelines.loader import Loader
from slipform.pipelines.manifest import Manifest
from slipform.pipelines.mirror.folder import local_folder
from slipform.pipelines.rendering.prepare import are_compiled
from slipform.pipelines.samples import open_samples
from slipform.train.config.image_sizes import evaluation_augment
from slipform.train.config.run_config import RunConfig
from slipform.train.machine.distributed import Process
from slipform.train.run.resume import epoch_of, executor_of
from slipform.train.step.data import has_images, open_loader

__all__ = [
    "evaluation_executors", "first_images", "open_evaluation", "open_training_data", "warm_up",
]  # fmt: skip


def open_training_data(config: RunConfig, saved: dict[str, Any] | None, process: Process) -> Loader:
    """Open the loader of the training split, with the same executor in all processes.

    The share of the JPEGs for the decoder of a GPU is the same, too.

    Args:
        config: The settings of the run.
        saved: The content of the checkpoint that is resumed; it names the executor for "auto".
            None: the run is new.
        process: This process; every process calls this function.

    Raises:
        DatasetError: There is no such dataset, or it is damaged.
    """
    executor = config.data.executor if saved is None else executor_of(saved, config, process)
    epoch = 1 if saved is None else epoch_of(saved)
    loader = None
    if process.is_main:
        loader = open_loader(
            config, "train", process, training=True, executor=executor, epoch=epoch
        )
        executor = loader.executor_name
    share = None if loader is None else loader.decoder_share
    executor, share = process.broadcast_object((executor, share))
    if loader is None:
        if share is not None:
            config = config.replace("data.decoder_share", share)
        loader = open_loader(
            config, "train", process, training=True, executor=executor, epoch=epoch
        )
    return loader


def evaluation_executors(
    config: RunConfig, saved: dict[str, Any] | None, manifest: Manifest, process: Process
) -> dict[str, str]:
    """The executors of val and test. A run keeps them, and all processes have the same.

    For "auto" the free memory decides, which may be another one when the run is resumed. "host"
    decodes large photos at a part of their size, and "resident" does not.

    Args:
        config: The settings of the run.
        saved: The content of the checkpoint that is resumed. None: the run is new.
        manifest: The manifest of the dataset.
        process: This process; every process calls this function.

    Returns:
        Split -> executor, for the splits that have images. {} if data.executor is not "auto".
    """
    if config.data.executor != "auto":
        return {}
    before = (saved or {}).get("evaluation")
    if isinstance(before, dict) and before.get("device") == process.device.type:
        return {split: str(before[split]) for split in ("val", "test") if split in before}
    found = {}
    for split in ("val", "test") if process.is_main else ():
        if has_images(config, manifest, split):
            found[split] = _evaluation_executor(config, split, manifest, process)
    shared: dict[str, str] = process.broadcast_object(found)
    return shared


def _evaluation_executor(
    config: RunConfig, split: str, manifest: Manifest, process: Process
) -> str:
    folder, fold = local_folder(config.data.folder), config.data.chosen_fold
    beton = open_samples(folder, manifest, split, fold).beton
    spec, device = evaluation_augment(config).evaluation(), str(process.device)
    return chosen(beton, spec, device, tuned(beton, spec.image_size, device))


def open_evaluation(
    config: RunConfig,
    split: str,
    manifest: Manifest,
    process: Process,
    executors: dict[str, str],
    opened: ExitStack,
) -> Loader | None:
    """Open the loader of a split for evaluation.

    Args:
        config: The settings of the run.
        split: "val" or "test".
        manifest: The manifest of the dataset.
        process: This process.
        executors: From `evaluation_executors`.
        opened: Closes the loader.

    Returns:
        The loader; None if the dataset has no such images.

    Raises:
        DatasetError: Images have several labels, and none of the split has any.
    """
    if not has_images(config, manifest, split):
        return None
    loader = open_loader(config, split, process, executor=executors.get(split))
    opened.enter_context(loader)
    if manifest.labels == "multi" and not any(loader.class_counts):
        raise DatasetError(
            f"no image of {split} has a label, so that mAP cannot be measured: run prep with"
            f" another division into splits, or without {split}"
        )
    return loader


def first_images(loader: Loader) -> Tensor:
    """Make the images of the next batch. The loader's position does not change.

    Args:
        loader: The loader of the training split.

    Returns:
        A copy of the images, [N, 3, S, S].
    """
    position = loader.state_dict()
    images = next(iter(loader)).images.clone()
    loader.load_state_dict(position)
    return images


def warm_up(loader: Loader, process: Process, say: Callable[[str], None]) -> None:
    """Make the first batch once, which compiles all kernels that it needs.

    The first step of the first run on a machine would otherwise wait for the compilation. That
    minute would count as time that training waited for data. All processes return together.

    Args:
        loader: The loader of the training split. Its position does not change.
        process: This process; every process calls this function.
        say: Prints a message.
    """
    if not are_compiled(loader.augment):
        say("compiling the kernels of the data pipeline: about a minute, once on a machine")
    if len(loader):
        first_images(loader)
    process.broadcast_object(None)
