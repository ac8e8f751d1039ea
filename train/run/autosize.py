"""`batch_size = "auto"`: the largest batch that fits into the device's memory.

In: a configuration and the dataset. Out: a number of images. The learning rate is left as it is
set.
"""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch

from slipform.pipelines.batch import SyntheticLoader
from slipform.pipelines.errors import ConfigError
from slipform.pipelines.manifest import Manifest
from slipform.train.config.run_config import RunConfig
from slipform.train.machine.distributed import Process
from slipform.train.step.build import build_state
from slipform.train.step.step import train_step

# memory is no limit there, and more images to a step do not make it faster: caches are full long
# before
ON_CPU = 64
_MEMORY_SHARE = (
    0.9  # of what is free: evaluation, the loader's buffers and cuDNN's workspaces need some too
)
MIN_STEPS_PER_EPOCH = 10


def find_batch_size(config: RunConfig, manifest: Manifest, process: Process) -> int:
    """A power of two. Trial steps run on a model of their own, of which nothing is left behind."""
    limit = max(
        1, manifest.split("train").num_samples // (MIN_STEPS_PER_EPOCH * process.world_size)
    )
    if process.device.type == "cpu":
        return min(ON_CPU, limit)

    def fits(batch_size: int) -> bool:
        return _fits(config, manifest.num_classes, process, batch_size)

    found = largest_power_of_two(fits, limit)
    if found == 0:
        raise ConfigError(
            'train.batch_size = "auto": not even one image fits into the memory; take a smaller'
            " model or image_size"
        )
    return found


def largest_power_of_two(fits: Callable[[int], bool], limit: int) -> int:
    """The largest power of two up to `limit` for which `fits`, which is true up to some size and
    false above; 0 for none."""
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
        for batch in data:
            train_step(state, batch)
        torch.cuda.synchronize(process.device)
        return torch.cuda.max_memory_reserved(process.device) - before < _MEMORY_SHARE * free
    except torch.cuda.OutOfMemoryError:
        return False
    finally:
        state = data = batch = None  # type: ignore[assignment]
        gc.collect()
        torch.compiler.reset()
        torch.cuda.empty_cache()
