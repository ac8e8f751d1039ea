"""Three machines that make a Plan into pixels; `choose` picks one.

In: an executor's name (or "auto"), a beton, a spec. Out: an `Executor`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slipform.pipelines.beton import Beton
from slipform.pipelines.errors import unknown
from slipform.pipelines.machine import free_memory_bytes

if TYPE_CHECKING:
    from slipform.pipelines.executors.contract import Executor, Settings

NAMES = ("dali", "host", "resident")
MEMORY_SHARE = 0.25  # of the free memory, which resident pixels may take under "auto"


def choose(name: str, beton: Beton, settings: Settings, tuned: dict[str, Any]) -> Executor:
    """Build the executor `name`.

    "auto" takes resident where the decoded images fit, else what `tuned` says (a profile), else
    dali on a GPU, host on a CPU.
    """
    if name == "auto":
        fits = beton.resident_bytes() <= MEMORY_SHARE * free_memory_bytes(str(settings.device))
        streaming = "dali" if settings.device.type == "cuda" else "host"
        if tuned.get("executor") in ("dali", "host"):
            streaming = tuned["executor"]
        name = "resident" if fits else streaming
    if name == "dali":
        from slipform.pipelines.executors.dali import DaliExecutor

        return DaliExecutor(beton, settings)
    if name == "host":
        from slipform.pipelines.executors.host import HostExecutor

        return HostExecutor(beton, settings)
    if name == "resident" and settings.device.type == "cuda":
        from slipform.pipelines.executors.resident_gpu import ResidentGpuExecutor

        return ResidentGpuExecutor(beton, settings)
    if name == "resident":
        from slipform.pipelines.executors.resident import ResidentExecutor

        return ResidentExecutor(beton, settings)
    raise unknown("executor", name, (*NAMES, "auto"))
