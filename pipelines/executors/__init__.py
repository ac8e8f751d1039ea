"""Three machines that make a Plan into pixels; `choose` picks one.

In: an executor's name (or "auto"), a beton, a spec. Out: an `Executor`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil

from pipelines.augment import Augmentation
from pipelines.beton import Beton
from pipelines.errors import unknown

if TYPE_CHECKING:
    import torch

    from pipelines.executors.job import Executor

NAMES = ("dali", "host", "resident")
MEMORY_SHARE = 0.25  # of the free memory, which resident pixels may take under "auto"


def choose(
    name: str,
    beton: Beton,
    *,
    spec: Augmentation,
    batch_size: int,
    dtype: torch.dtype,
    device: torch.device,
    threads: int,
    depth: int,
    on_bad: str,
) -> Executor:
    """Build the executor `name`; "auto" takes resident where the decoded images fit, else dali on a GPU and host on a CPU."""
    if name not in (*NAMES, "auto"):
        raise unknown("loader", name, (*NAMES, "auto"))
    if name == "auto":
        fits = beton.resident_bytes() <= MEMORY_SHARE * _free_bytes(device)
        name = "resident" if fits else ("dali" if device.type == "cuda" else "host")
    common = {"batch_size": batch_size, "dtype": dtype, "device": device, "threads": threads, "depth": depth, "on_bad": on_bad}
    if name == "dali":
        from pipelines.executors.dali import DaliExecutor

        return DaliExecutor(beton, spec=spec, **common)
    if name == "host":
        from pipelines.executors.host import HostExecutor

        return HostExecutor(beton, image_size=spec.image_size, **common)
    from pipelines.executors.resident import ResidentExecutor

    return ResidentExecutor(beton, image_size=spec.image_size, **common)


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)
