"""Executors make pixels from Plans. `choose` builds one of them.

In: the name of an executor or "auto", a beton, settings. Out: an `Executor`. Each file of this
folder without an underscore in its name is an executor of that name. `GPU_ONLY` has the names of
those that need a GPU. `contract` says what such a file defines.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from slipform.pipelines.beton import Beton
from slipform.pipelines.errors import unknown
from slipform.pipelines.machine import free_memory_bytes
from slipform.pipelines.plan.registry import bound

if TYPE_CHECKING:
    from slipform.pipelines.executors.contract import Executor
    from slipform.pipelines.plan.augmentation import Augmentation
    from slipform.pipelines.rendering.request import Settings

__all__ = ["GPU_ONLY", "NAMES", "choose", "keeps", "streaming"]

NAMES = tuple(
    sorted(
        module.name
        for module in pkgutil.iter_modules(__path__)
        if "_" not in module.name and module.name != "contract"
    )
)
GPU_ONLY = ("stream",)
MEMORY_SHARE = 0.25  # share of the free memory that resident pixels may take with "auto"


def keeps(beton: Beton, spec: Augmentation, device: str) -> bool:
    """Whether "auto" keeps the decoded images in memory.

    They may take at most a quarter of what is free. On a GPU `resident` renders neither bicubic
    resizes nor noise.

    Args:
        beton: The stored images.
        spec: The augmentation.
        device: "cpu", "cuda" or "cuda:N".
    """
    if spec.on_cores and device.startswith("cuda"):
        return False
    return beton.resident_bytes() <= MEMORY_SHARE * free_memory_bytes(device)


def streaming(beton: Beton, spec: Augmentation, device: str) -> list[str]:
    """The executors that stream and can do the work, the usual one first.

    Args:
        beton: The stored images.
        spec: The augmentation.
        device: "cpu", "cuda" or "cuda:N".
    """
    dali = ["dali"] if len(np.unique(beton.modes)) < 2 and spec.fits_dali else []
    if not device.startswith("cuda"):
        return ["host", *dali]
    return ["host"] if spec.on_cores else [*dali, *GPU_ONLY, "host"]


def choose(name: str, beton: Beton, settings: Settings, tuned: dict[str, Any]) -> Executor:
    """Build an executor.

    Args:
        name: One of `NAMES`, or "auto". "auto" is "resident" if the decoded images take at most a
            quarter of the free memory. Otherwise it is what `tuned` says, or else "dali" on a GPU
            and "host" on a CPU. What cannot do the work is replaced by the next one of `streaming`.
        beton: The stored images.
        settings: The settings of the executor.
        tuned: What `bench tune` found on this machine. {}: nothing.

    Returns:
        The executor.

    Raises:
        ConfigError: There is no executor of that name, it does not support the settings, or an own
            augmentation is not registered.
        SampleError: on_bad is "error" and a sample cannot be read.
    """
    bound(settings.spec.own)
    if name == "auto":
        able = streaming(beton, settings.spec, str(settings.device))
        best = tuned["executor"] if tuned.get("executor") in able else able[0]
        kept = keeps(beton, settings.spec, str(settings.device))
        name = "resident" if kept else best
    if name not in NAMES:
        raise unknown("executor", name, (*NAMES, "auto"))
    if settings.decoder_share is None and tuned.get("executor") == name:
        settings = replace(settings, decoder_share=tuned.get("decoder_share"))
    executor: Executor = importlib.import_module(f"{__name__}.{name}").build(beton, settings)
    return executor
