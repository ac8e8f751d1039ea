"""The data of a run: `open_loader` makes a Loader from a configuration.

In: a RunConfig, a split, this process. Out: a Loader of the dataset in config.data.folder; without
a Loader, the number of its training images, and whether a split has images.
"""

from __future__ import annotations

import torch

from slipform.pipelines.errors import ConfigError
from slipform.pipelines.loader import Loader
from slipform.pipelines.manifest import Manifest
from slipform.pipelines.order import part_of
from slipform.train.config.image_sizes import evaluation_augment, training_augment
from slipform.train.config.run_config import RunConfig
from slipform.train.machine.device import pick_precision
from slipform.train.machine.distributed import Process

__all__ = [
    "batch_sizes", "global_batch_size", "has_images", "num_training_samples", "open_loader",
]  # fmt: skip


def open_loader(
    config: RunConfig,
    split: str,
    process: Process,
    *,
    training: bool = False,
    batch_size: int | None = None,
    dtype: torch.dtype | None = None,
    executor: str | None = None,
    epoch: int = 1,
) -> Loader:
    """Open a loader of a split with the settings of a run. The caller closes it.

    The loader reuses its buffers: a batch is valid until the next one is requested.

    Args:
        config: The configuration of the run; data.folder is the dataset.
        split: "train", "val" or "test".
        process: This process: it selects the part of each batch, and the device.
        training: True: shuffled, or drawn by data.sampling, and augmented by train.seed. False: in
            stored order, without augmentation, and the last batch is padded.
        batch_size: Images in a batch of one process. Default: train.batch_size, which
            train.split_batches divides among the processes.
        dtype: The dtype of the images. Default: the dtype of train.precision on the device.
        executor: The executor. Default: data.executor.
        epoch: The epoch, from 1, that gives the size of the images of training; see
            train.image_sizes. Evaluation has its own size.

    Raises:
        ConfigError: train.batch_size is "auto", and batch_size is None.
        DatasetError: There is no such dataset or split, or it is damaged.
    """
    split_batches = config.train.split_batches and batch_size is None
    if batch_size is None:
        batch_size = global_batch_size(config, 1)
    return Loader(
        config.data.folder,
        split,
        training_augment(config, epoch) if training else evaluation_augment(config),
        batch_size=batch_size,
        split_batches=split_batches,
        training=training,
        seed=config.train.seed if training else 0,
        executor=executor or config.data.executor,
        device=process.device,
        dtype=dtype or pick_precision(config.train.precision, process.device),
        rank=process.rank,
        world_size=process.world_size,
        threads=config.data.threads,
        prefetch=config.data.prefetch,
        on_bad=config.data.on_bad,
        decode_scale=config.data.decode_scale,
        decoder_share=config.data.decoder_share,
        block=config.data.block if training else 0,
        sampling=config.data.sampling if training else "all",
        fold=config.data.chosen_fold or "",
        reuse_buffers=True,
        as_tuned=config.data.executor == "auto",
    )


def batch_sizes(config: RunConfig, process: Process) -> list[int]:
    """The number of images in a training batch of each process.

    Args:
        config: The configuration of the run.
        process: The number of processes.

    Raises:
        ConfigError: train.batch_size is "auto".
    """
    total, many = global_batch_size(config, process.world_size), process.world_size
    return [part_of(total, rank, many)[1] for rank in range(many)]


def global_batch_size(config: RunConfig, world_size: int) -> int:
    """The number of images in a training batch over all processes.

    Args:
        config: The configuration of the run.
        world_size: The number of processes.

    Raises:
        ConfigError: train.batch_size is "auto".
    """
    size = config.train.batch_size
    if not isinstance(size, int):
        raise ConfigError(
            'train.batch_size = "auto" has not been replaced by a number: give batch_size'
        )
    return size * (1 if config.train.split_batches else world_size)


def has_images(config: RunConfig, manifest: Manifest, split: str) -> bool:
    """Whether a split has images. With data.fold, val is a fold. No file is opened.

    Args:
        config: The configuration of the run; data.fold is read.
        manifest: The manifest of the dataset.
        split: "val" or "test".
    """
    if split == "val" and config.data.fold:
        return True
    known = manifest.splits.get(split)
    return known is not None and known.num_samples > 0


def num_training_samples(config: RunConfig, manifest: Manifest) -> int:
    """The number of images in an epoch of training, over all processes. No file is opened.

    Args:
        config: The configuration of the run; data.fold is read.
        manifest: The manifest of the dataset.

    Raises:
        ConfigError: data.fold is no fold.
        DatasetError: There is no such split.
    """
    fold = config.data.chosen_fold
    if fold is None:
        return manifest.split("train").num_samples
    splits = [split for name, split in manifest.splits.items() if name in ("train", "val")]
    return fold.num_samples(sum(split.num_samples for split in splits), training=True)
