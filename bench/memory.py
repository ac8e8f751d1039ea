"""How much memory a process takes: on the device three ways, on the host one.

In: nothing but the process. Out: bytes.

- allocated: tensors, as torch's allocator counts them at its peak (CUDA-graph pools are not in it,
  so it can lie low);
- reserved: what that allocator has taken from the driver at its peak;
- device_used: what the driver says this process holds, with libraries' workspaces, CUDA graphs and
  DALI's buffers (NVML);
- resident: pages of the process in memory at its peak (VmHWM), mapped files among them, and the
  private pages of its children (a page that a forked worker shares with its parent is counted
  once).
"""

from __future__ import annotations

import contextlib
from pathlib import Path


def resident_bytes() -> int:
    """Peak resident memory of this process plus the private memory its child processes have now."""
    import psutil

    total = 1024 * _kib(Path("/proc/self/status"), "VmHWM:")
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
    with contextlib.suppress(
        OSError
    ):  # some containers do not allow it: the peak is then that since the process began
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
    import os

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
