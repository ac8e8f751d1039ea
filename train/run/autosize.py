"""`batch_size = "auto"`: the largest batch that fits into the device's memory.

In: a configuration and the dataset. Out: a number of images, and why it is that one. The learning
rate stays as it is set.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass

import torch

from slipform.pipelines.batch import SyntheticLoader
from slipform.pipelines.errors import ConfigError
from slipform.pipelines.manifest import Manifest
from slipform.train.config.run_config import RunConfig
from slipform.train.machine.distributed import Process
from slipform.train.step.build import build_state
from slipform.train.step.step import train_step

__all__ = ["BatchSize", "find_batch_size", "largest_power_of_two"]

# Memory is no limit on a CPU, and larger batches are not faster: its caches are full long before.
ON_CPU = 64
# Of what is free: evaluation, the loader's buffers and cuDNN's workspaces need some too.
_MEMORY_SHARE = 0.9
MIN_STEPS_PER_EPOCH = 10
_SMALLEST = 8  # of a small dataset: BatchNorm's statistics need some images


@dataclass(frozen=True)
class BatchSize:
    """What was found.

    Args:
        images: Of one process and one forward pass.
        reason: What limited it, for the person who watches.
    """

    images: int
    reason: str


def find_batch_size(config: RunConfig, manifest: Manifest, process: Process) -> BatchSize:
    """The largest power of two that fits into memory and leaves ten steps to an epoch, or 8 images.

    On a CPU at most 64, whatever the memory. Trial steps run on a model of their own, of which
    nothing is left behind.

    Args:
        config: Everything but train.batch_size is read.
        manifest: Of the dataset.
        process: The device, and how many processes share a batch.

    Raises:
        ConfigError: Not even two images fit.
    """
    num_samples = manifest.split("train").num_samples
    share = num_samples // process.world_size
    limit = max(1, min(_SMALLEST, share), share // MIN_STEPS_PER_EPOCH)
    few = f"there are {num_samples} training images, and an epoch should have some steps"
    if process.device.type == "cpu":
        if limit < ON_CPU:
            return BatchSize(limit, few)
        return BatchSize(ON_CPU, "more are not faster on a CPU")

    def fits(batch_size: int) -> bool:
        # Two images at least: BatchNorm may need them.
        return _fits(config, manifest.num_classes, process, max(2, batch_size))

    found = largest_power_of_two(fits, limit)
    if found == 0:
        raise ConfigError(
            'train.batch_size = "auto": not even two images fit into the memory; take a smaller'
            " model or image_size"
        )
    return BatchSize(found, few if 2 * found > limit else "twice as many do not fit into memory")


def largest_power_of_two(fits: Callable[[int], bool], limit: int) -> int:
    """The largest power of two up to `limit` that fits; 0 for none.

    Args:
        fits: True up to some size and false above.
        limit: The largest size to try.
    """
    found = 0
    size = 1
    while size <= limit and fits(size):
        found, size = size, size * 2
    return found


def _fits(config: RunConfig, num_classes: int, process: Process, batch_size: int) -> bool:
    """Whether two steps run within the memory: the second has the optimizer's state beside the
    activations."""
    alone = Process(process.device)
    free, _ = torch.cuda.mem_get_info(process.device)
    torch.cuda.reset_peak_memory_stats(process.device)
    before = torch.cuda.memory_reserved(process.device)
    try:
        state = build_state(config, num_classes=num_classes, process=alone)
        data = SyntheticLoader(
            batch_size=batch_size,
            image_size=config.augment.image_size,
            num_classes=num_classes,
            num_batches=2,
            device=process.device,
            dtype=state.functions.precision,
        )
        batches = iter(data)
        for _ in range(2):
            train_step(state, batches)
        torch.cuda.synchronize(process.device)
        return torch.cuda.max_memory_reserved(process.device) - before < _MEMORY_SHARE * free
    except torch.cuda.OutOfMemoryError:
        return False
    finally:
        state = data = batches = None  # type: ignore[assignment]
        gc.collect()
        torch.compiler.reset()
        torch.cuda.empty_cache()
