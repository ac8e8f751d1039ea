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
from slipform.pipelines.beton_format import JPG
from slipform.pipelines.errors import unknown
from slipform.pipelines.machine import free_memory_bytes
from slipform.pipelines.plan.registry import bound
from slipform.pipelines.profile import profile_key, read_profile

if TYPE_CHECKING:
    from slipform.pipelines.executors.contract import Executor
    from slipform.pipelines.plan.augmentation import Augmentation
    from slipform.pipelines.rendering.request import Settings

__all__ = ["GPU_ONLY", "NAMES", "choose", "chosen", "keeps", "streaming", "tuned"]

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


def tuned(beton: Beton, image_size: int, device: str) -> dict[str, Any]:
    """What `bench tune` found on this machine for such images. {}: nothing.

    Args:
        beton: The stored images.
        image_size: Side of the output in pixels.
        device: "cpu", "cuda" or "cuda:N".
    """
    stored = "jpeg" if (beton.modes == JPG).any() else "raw"
    return read_profile(profile_key(stored, image_size, device))


def chosen(beton: Beton, spec: Augmentation, device: str, found: dict[str, Any]) -> str:
    """The executor for "auto".

    It is "resident" if the decoded images take at most a quarter of the free memory. Otherwise it
    is what `found` says, or else "dali" on a GPU and "host" on a CPU. What cannot do the work is
    replaced by the next one of `streaming`.

    Args:
        beton: The stored images.
        spec: The augmentation.
        device: "cpu", "cuda" or "cuda:N".
        found: From `tuned`.

    Returns:
        One of `NAMES`.
    """
    if keeps(beton, spec, device):
        return "resident"
    able = streaming(beton, spec, device)
    return found["executor"] if found.get("executor") in able else able[0]


def choose(name: str, beton: Beton, settings: Settings, found: dict[str, Any]) -> Executor:
    """Build an executor.

    Args:
        name: One of `NAMES`, or "auto"; see `chosen`.
        beton: The stored images.
        settings: The settings of the executor.
        found: From `tuned`. {}: nothing.

    Returns:
        The executor.

    Raises:
        ConfigError: There is no executor of that name, it does not support the settings, or an own
            augmentation is not registered.
        SampleError: on_bad is "error" and a sample cannot be read.
    """
    bound(settings.spec.own)
    if name == "auto":
        name = chosen(beton, settings.spec, str(settings.device), found)
    if name not in NAMES:
        raise unknown("executor", name, (*NAMES, "auto"))
    if settings.decoder_share is None and found.get("executor") == name:
        settings = replace(settings, decoder_share=found.get("decoder_share"))
    executor: Executor = importlib.import_module(f"{__name__}.{name}").build(beton, settings)
    return executor
