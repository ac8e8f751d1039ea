"""Checks of the machine: Python, processor, memory, GPU.

In: nothing; the checks ask the system. Out: `Finding`s. A check does not raise: an error becomes a
finding.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator

from slipform.doctor.finding import GIB, Finding, gib
from slipform.pipelines.machine import free_memory_bytes, num_cores, processor_name

__all__ = ["gpu", "machine"]

_MIN_FREE_MEMORY = 2 * GIB


def machine() -> Iterator[Finding]:
    """Python, the system, the processor, the cores, the free memory."""
    python = platform.python_version()
    supported = (3, 11) <= sys.version_info[:2] <= (3, 13)
    yield Finding(
        "Machine",
        "Python",
        f"{python} in {sys.prefix}",
        python,
        "ok" if supported else "needed",
        "" if supported else "install Python 3.11, 3.12 or 3.13",
    )
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    linux = platform.system() == "Linux"
    yield Finding(
        "Machine",
        "system",
        system,
        system,
        "ok" if linux else "needed",
        "" if linux else "Slipform runs on Linux only",
    )
    yield Finding("Machine", "processor", processor_name(), processor_name())
    cores = num_cores()
    yield Finding("Machine", "cores", f"{cores} for this process", cores)
    free = free_memory_bytes()
    enough = free >= _MIN_FREE_MEMORY
    yield Finding(
        "Machine",
        "free memory",
        gib(free),
        free,
        "ok" if enough else "optional",
        "" if enough else f"end other programs: training needs {gib(_MIN_FREE_MEMORY)} or more",
    )


def gpu() -> Iterator[Finding]:
    """The driver's GPUs, and whether torch can use them."""
    names, driver = _nvidia()
    if not names:
        yield Finding("GPU", "NVIDIA GPU", "none: training runs on the processor", [])
    else:
        yield Finding("GPU", "NVIDIA GPU", ", ".join(names), names)
        yield Finding("GPU", "driver", driver, driver)
    try:
        import torch
    except Exception:
        return  # `packages` reports it
    cuda = torch.version.cuda
    usable = torch.cuda.is_available()
    if names and not usable:
        mend = (
            f"update the NVIDIA driver ({driver}) to one for CUDA {cuda}"
            if cuda
            else "pip install torch torchvision --index-url https://download.pytorch.org/whl/cu130"
        )
        yield Finding("GPU", "CUDA of torch", f"{cuda}: not usable", cuda, "optional", mend)
    else:
        text = f"{cuda or 'none'}{'' if usable or not cuda else ', unused without a GPU'}"
        yield Finding("GPU", "CUDA of torch", text, cuda)
    for index in range(torch.cuda.device_count() if usable else 0):
        free, total = torch.cuda.mem_get_info(index)
        text = f"{gib(free)} of {gib(total)} free"
        yield Finding("GPU", f"memory of GPU {index}", text, {"free": free, "total": total})


def _nvidia() -> tuple[list[str], str]:
    """The names of the GPUs and the version of the driver, from the driver."""
    try:
        import pynvml

        pynvml.nvmlInit()
        try:
            handles = map(pynvml.nvmlDeviceGetHandleByIndex, range(pynvml.nvmlDeviceGetCount()))
            names = [pynvml.nvmlDeviceGetName(handle) for handle in handles]
            return [str(name) for name in names], str(pynvml.nvmlSystemGetDriverVersion())
        finally:
            pynvml.nvmlShutdown()
    except Exception:  # no driver, or no package
        return [], ""
