"""The data of a run: `open_loader`, the one place where a configuration becomes a Loader.

In: a RunConfig, a split, this process. Out: a Loader over the dataset in config.data.folder.
"""

from __future__ import annotations

import torch

from slipform.pipelines.errors import ConfigError
from slipform.pipelines.loader import Loader
from slipform.train.config.run_config import RunConfig
from slipform.train.machine.device import pick_precision
from slipform.train.machine.distributed import Process

__all__ = ["open_loader"]


def open_loader(
    config: RunConfig,
    split: str,
    process: Process,
    *,
    training: bool = False,
    batch_size: int | None = None,
    dtype: torch.dtype | None = None,
) -> Loader:
    """Open a loader over a split as the run's configuration has it. The caller closes it.

    Its buffers are reused: a batch is valid until the next one is asked for.

    Args:
        config: data.folder is the dataset.
        split: "train", "val" or "test".
        process: Which part of each batch is this process', and its device.
        training: Shuffled and augmented by train.seed; else in stored order, without augmentation,
            the last batch padded.
        batch_size: Images of one process. Default: train.batch_size, which must be a number.
        dtype: Of the images. Default: what train.precision means on the device.

    Raises:
        ConfigError: train.batch_size is "auto" and no batch_size is given.
        DatasetError: There is no such dataset or split, or it is damaged.
    """
    size = config.train.batch_size if batch_size is None else batch_size
    if not isinstance(size, int):
        raise ConfigError('train.batch_size = "auto" must be decided before data are read')
    return Loader(
        config.data.folder,
        split,
        config.augment,
        batch_size=size,
        training=training,
        seed=config.train.seed if training else 0,
        executor=config.data.executor,
        device=process.device,
        dtype=dtype or pick_precision(config.train.precision, process.device),
        rank=process.rank,
        world_size=process.world_size,
        threads=config.data.threads,
        prefetch=config.data.prefetch,
        on_bad=config.data.on_bad,
        decode_scale=config.data.decode_scale,
        block=config.data.block if training else 0,
        reuse_buffers=True,
    )
