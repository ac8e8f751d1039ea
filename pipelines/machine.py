"""This machine and this process: processor, cores, memory, the folder for caches.

In: nothing but the system. Out: names and bytes. Peak memory is counted in four ways:

- allocated: tensors, as torch's allocator counts them at its peak (CUDA-graph pools are not in it,
  so it can be too low);
- reserved: what that allocator has taken from the driver at its peak;
- device_used: what the driver says this process holds, with the workspaces of libraries, CUDA
  graphs and DALI's buffers (NVML);
- resident: pages of the process in memory at its peak (VmHWM), mapped files among them, and the
  private pages of its children (a page that a forked worker shares with its parent is counted
  once).
"""

from __future__ import annotations

import contextlib
import os
import platform
import tempfile
from pathlib import Path


def processor_name() -> str:
    """The processor's name; where a hypervisor hides it, at least its widest vector unit."""
    fields: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    name = fields.get("model name", platform.processor() or platform.machine())
    flags = fields.get("flags", "").split()
    units = (("avx512f", "AVX-512"), ("avx2", "AVX2"))
    widest = next((text for flag, text in units if flag in flags), "")
    return f"{name} ({widest})" if widest else name


def num_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


def device_name(device: str) -> str:
    """The GPU's name, or the processor's where `device` is "cpu"."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    return processor_name()


def machine_name(device: str = "cpu") -> str:
    """What a result was measured on: "NVIDIA H200, 16 cores"."""
    return f"{device_name(device)}, {num_cores()} cores"


def free_memory_bytes(device: str = "cpu") -> int:
    """Memory that can be taken now: of a GPU, or of the host."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    return int(psutil.virtual_memory().available)


def cache_folder() -> Path:
    """The folder for what can be made again: $XDG_CACHE_HOME/slipform, else ~/.cache/slipform.

    Where neither can be written (a container without a home folder), a folder of this user below
    the system's temporary folder. It is not created here.
    """
    chosen = os.environ.get("XDG_CACHE_HOME") or os.environ.get("HOME")
    if chosen:
        parent = Path(chosen) if os.environ.get("XDG_CACHE_HOME") else Path(chosen) / ".cache"
        existing = next((p for p in (parent, *parent.parents) if p.exists()), None)
        if existing is not None and os.access(existing, os.W_OK | os.X_OK):
            return parent / "slipform"
    return Path(tempfile.gettempdir()) / f"slipform-{os.getuid()}"


def peak_resident_bytes() -> int:
    """Peak resident memory of this process alone, in bytes."""
    # ru_maxrss would count what the parent had when it forked.
    return 1024 * _kib(Path("/proc/self/status"), "VmHWM:")


def resident_bytes() -> int:
    """Peak resident memory of this process plus the private memory its child processes have now."""
    import psutil

    total = peak_resident_bytes()
    for child in psutil.Process().children(recursive=True):
        try:
            rollup = Path(f"/proc/{child.pid}/smaps_rollup")
            total += 1024 * (_kib(rollup, "Private_Clean:") + _kib(rollup, "Private_Dirty:"))
        except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            continue
    return total


def resident_now() -> int:
    """Pages of this process that are in memory now, in bytes."""
    return 1024 * _kib(Path("/proc/self/status"), "VmRSS:")


def _kib(path: Path, name: str) -> int:
    for line in path.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    return 0


def reset_peak(device: str) -> None:
    """Let the peaks of the device and of this process start anew from now."""
    # Some containers do not allow it: the peak is then that since the process began.
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # man 5 proc: VmHWM becomes VmRSS
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: str, *, alone: bool) -> dict[str, float]:
    """Bytes by way of counting: resident_bytes always; allocated_bytes, reserved_bytes and
    device_used_bytes on a GPU.

    alone: no other process uses the device. In a container the driver names processes by numbers
    that are not ours: then all that is used on the device is this process', if it is alone, and
    device_used_bytes is left out, if it is not.
    """
    found = {"resident_bytes": float(resident_bytes())}
    if device.startswith("cuda"):
        import torch

        found["allocated_bytes"] = float(torch.cuda.max_memory_allocated(device))
        found["reserved_bytes"] = float(torch.cuda.max_memory_reserved(device))
        used = _device_used_bytes(torch.cuda.current_device(), alone)
        if used is not None:
            found["device_used_bytes"] = float(used)
    return found


def _device_used_bytes(index: int, alone: bool) -> int | None:
    """What NVML books on this process."""
    import pynvml
    import torch

    pynvml.nvmlInit()
    try:
        uuid = str(torch.cuda.get_device_properties(index).uuid)
        handle = pynvml.nvmlDeviceGetHandleByUUID(
            uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
        )
        for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle):
            if process.pid == os.getpid() and process.usedGpuMemory:
                return int(process.usedGpuMemory)
        return int(pynvml.nvmlDeviceGetMemoryInfo(handle).used) if alone else None
    finally:
        pynvml.nvmlShutdown()
