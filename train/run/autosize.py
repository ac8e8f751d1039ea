"""`batch_size = "auto"`: the largest batch that fits into the memory of the device.

In: a configuration and the dataset. Out: a number of images, and the reason for it. The learning
rate does not change.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass

import torch

from slipform.pipelines.batch import SyntheticLoader
from slipform.pipelines.errors import ConfigError
from slipform.pipelines.manifest import Manifest
from slipform.train.config.image_sizes import training_sizes
from slipform.train.config.run_config import RunConfig
from slipform.train.machine.distributed import Process
from slipform.train.step.build import build_state
from slipform.train.step.data import num_training_samples
from slipform.train.step.step import train_step

__all__ = ["BatchSize", "find_batch_size", "largest_power_of_two"]

# On a CPU larger batches are not faster: they exceed its caches. Memory is not the limit.
_ON_CPU = 64
# Share of the free memory. Evaluation, the loader's buffers and cuDNN's workspaces need some, too.
_MEMORY_SHARE = 0.9
_MIN_STEPS_PER_EPOCH = 10
_SMALLEST = 8  # for a small dataset: BatchNorm's statistics need several images


@dataclass(frozen=True)
class BatchSize:
    """A batch size and the reason for it.

    Attributes:
        images: Images in a forward pass of one process.
        reason: What limits the number, for the user.
    """

    images: int
    reason: str


def find_batch_size(config: RunConfig, manifest: Manifest, process: Process) -> BatchSize:
    """The largest power of two that fits into memory, with ten steps in an epoch or 8 images.

    A CPU gets 64 at most. The trial steps use a model of their own, whose memory is freed.

    Args:
        config: The run; train.batch_size is not read.
        manifest: The manifest of the dataset.
        process: The device, and the number of processes.

    Raises:
        ConfigError: Two images do not fit into memory.
    """
    num_samples = num_training_samples(config, manifest)
    share = num_samples // process.world_size
    limit = max(1, min(_SMALLEST, share), share // _MIN_STEPS_PER_EPOCH)
    few = f"there are {num_samples} training images, and an epoch should have several steps"
    if process.device.type == "cpu":
        if limit < _ON_CPU:
            return BatchSize(limit, few)
        return BatchSize(_ON_CPU, "larger batches are not faster on a CPU")

    def fits(batch_size: int) -> bool:
        # At least two images: BatchNorm may need them.
        return _fits(config, manifest.num_classes, process, max(2, batch_size))

    found = largest_power_of_two(fits, limit)
    if found == 0:
        raise ConfigError(
            'train.batch_size = "auto": two images do not fit into the memory; choose a smaller'
            " model.name or augment.image_size"
        )
    return BatchSize(found, few if 2 * found > limit else "twice as many do not fit into memory")


def largest_power_of_two(fits: Callable[[int], bool], limit: int) -> int:
    """The largest power of two up to `limit` that fits; 0 if none fits.

    Args:
        fits: Whether a size fits: True up to some size, False above it.
        limit: The largest size to try.
    """
    found = 0
    size = 1
    while size <= limit and fits(size):
        found, size = size, size * 2
    return found


def _fits(config: RunConfig, num_classes: int, process: Process, batch_size: int) -> bool:
    """Whether two steps fit into memory. The second one has the optimizer's state, too."""
    alone = Process(process.device)
    # Compiling takes a minute for each size. Eager steps need at least as much memory.
    config = config.replace("train.compile", "off")
    free, _ = torch.cuda.mem_get_info(process.device)
    torch.cuda.reset_peak_memory_stats(process.device)
    before = torch.cuda.memory_reserved(process.device)
    try:
        state = build_state(config.unweighted(), num_classes=num_classes, process=alone)
        data = SyntheticLoader(
            batch_size=batch_size,
            image_size=max(training_sizes(config)),
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
