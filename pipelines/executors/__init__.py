"""Executors make pixels from a Plan; `choose` builds one of them.

In: an executor's name or "auto", a beton, settings. Out: an `Executor`. Every file of this folder
without an underscore in its name is an executor of that name; `contract` says what it defines.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

from slipform.pipelines.beton import Beton
from slipform.pipelines.errors import unknown
from slipform.pipelines.machine import free_memory_bytes

if TYPE_CHECKING:
    from slipform.pipelines.executors.contract import Executor
    from slipform.pipelines.rendering.request import Settings

__all__ = ["NAMES", "choose"]

NAMES = tuple(
    sorted(
        module.name
        for module in pkgutil.iter_modules(__path__)
        if "_" not in module.name and module.name != "contract"
    )
)
MEMORY_SHARE = 0.25  # of the free memory, which resident pixels may take under "auto"


def choose(name: str, beton: Beton, settings: Settings, tuned: dict[str, Any]) -> Executor:
    """Build an executor.

    Args:
        name: One of `NAMES`, or "auto": "resident" where the decoded images take at most a quarter
            of the free memory, else what `tuned` says, else "dali" on a GPU and "host" on a CPU;
            "host" in place of "dali" where that cannot warp as the spec says.
        beton: The stored images.
        settings: What it is built with.
        tuned: What `bench tune` found, {} where nothing was.

    Returns:
        The executor.

    Raises:
        ConfigError: There is no executor of that name, or it cannot do what the settings say.
        SampleError: on_bad is "error" and a sample cannot be read.
    """
    if name == "auto":
        fits = beton.resident_bytes() <= MEMORY_SHARE * free_memory_bytes(str(settings.device))
        streaming = "dali" if settings.device.type == "cuda" else "host"
        if tuned.get("executor") in ("dali", "host"):
            streaming = tuned["executor"]
        if not settings.spec.warps_everywhere:
            streaming = "host"
        name = "resident" if fits else streaming
    if name not in NAMES:
        raise unknown("executor", name, (*NAMES, "auto"))
    executor: Executor = importlib.import_module(f"{__name__}.{name}").build(beton, settings)
    return executor
