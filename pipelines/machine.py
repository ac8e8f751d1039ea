"""This machine and this process: processor, cores, memory, cache folder.

In: nothing but the system. Out: names and bytes. Peak memory is counted in four ways:

- allocated: the peak of torch's allocator. It does not include CUDA-graph pools, so it can be too
  low;
- reserved: the peak of what that allocator took from the driver;
- device_used: what the driver says this process uses (NVML). It includes the workspaces of
  libraries, CUDA graphs and DALI's buffers;
- resident: the peak of this process' pages in memory (VmHWM), which includes mapped files, plus the
  private pages of its children. A page that a forked child shares with its parent counts once.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import tempfile
from pathlib import Path

from slipform.pipelines.number_text import number_of

__all__ = [
    "cache_folder",
    "device_key",
    "device_name",
    "free_memory_bytes",
    "is_own",
    "machine_name",
    "num_cores",
    "num_threads",
    "others_cpu_seconds",
    "peak_memory",
    "peak_resident_bytes",
    "processor_name",
    "reset_peak",
    "resident_bytes",
    "resident_now",
]

_CGROUP = Path("/sys/fs/cgroup")
# The states of a core that computes. Time of guests is in "user" already.
_BUSY = ("user", "nice", "system", "irq", "softirq", "steal")


def processor_name() -> str:
    """The name of the processor and its widest vector unit. Some hypervisors hide the name."""
    fields = _processor()
    name = fields.get("model name", platform.processor() or platform.machine())
    flags = fields.get("flags", "").split()
    units = (("avx512f", "AVX-512"), ("avx2", "AVX2"))
    widest = next((text for flag, text in units if flag in flags), "")
    return f"{name} ({widest})" if widest else name


def _processor() -> dict[str, str]:
    """What the system says of the first core."""
    fields: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    return fields


def num_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def num_threads(device: str) -> int:
    """The number of threads that decode and render without a measurement: one for each core.

    Args:
        device: "cpu" or "cuda". On a GPU two cores are left for the threads that launch its work.
    """
    return max(1, num_cores() - 2) if device == "cuda" else num_cores()


def device_name(device: str) -> str:
    """The name of a GPU, or of the processor.

    Args:
        device: "cpu", "cuda" or "cuda:N".
    """
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    return processor_name()


def device_key(device: str) -> str:
    """What the speed of a device depends on, for findings that are kept.

    Some hypervisors give different processors the same name, so the family, model, stepping and
    flags of a processor are a part of it.

    Args:
        device: "cpu", "cuda" or "cuda:N".

    Returns:
        "AMD EPYC (AVX-512) 1f3a5c7e, 2 cores".
    """
    if device.startswith("cuda"):
        return machine_name(device)
    fields = _processor()
    known = [fields.get(name, "") for name in ("cpu family", "model", "stepping", "flags")]
    digest = hashlib.sha256("; ".join(known).encode()).hexdigest()[:8]
    return f"{processor_name()} {digest}, {number_of(num_cores(), 'core')}"


def machine_name(device: str = "cpu") -> str:
    """The name of this machine for results: "NVIDIA H200, 16 cores".

    Args:
        device: "cpu", "cuda" or "cuda:N".
    """
    return f"{device_name(device)}, {number_of(num_cores(), 'core')}"


def free_memory_bytes(device: str = "cpu") -> int:
    """The bytes of memory that are available now, on a GPU or on the host.

    Args:
        device: "cpu", "cuda" or "cuda:N".
    """
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    free = int(psutil.virtual_memory().available)
    limit, used = (_cgroup_bytes(name) for name in ("memory.max", "memory.current"))
    # Pages of files are a part of what is used, and are given up when memory is short.
    files = [_cgroup_bytes("memory.stat", name) or 0 for name in ("active_file", "inactive_file")]
    return free if limit is None or used is None else max(0, min(free, limit - used + sum(files)))


def _cgroup_bytes(file: str, name: str = "") -> int | None:
    """A number of the control group that limits a container; None where there is none."""
    try:
        words = (_CGROUP / file).read_text().split()
        return int(words[words.index(name) + 1 if name else 0])
    except (OSError, ValueError, IndexError):  # "max" is no limit
        return None


def others_cpu_seconds() -> float | None:
    """CPU seconds of all other processes since this machine was started; None: unknown.

    The difference of two calls, divided by the seconds between them, is the mean number of cores
    that others used. Time that a hypervisor took away counts, too. Ended children of this process
    count as this process.
    """
    import psutil

    try:
        times = psutil.cpu_times()
        used = sum(getattr(times, name, 0.0) for name in _BUSY)
    except (OSError, RuntimeError):  # /proc may be hidden
        return None
    own = os.times()
    mine = own.user + own.system + own.children_user + own.children_system
    return float(used - mine) if used else None


def cache_folder() -> Path:
    """The folder for files that can be regenerated. It may not exist yet.

    Returns:
        $XDG_CACHE_HOME/slipform, else ~/.cache/slipform. If it cannot be written to, as in a
        container without a home folder: a folder of this user below the system's temporary folder,
        where another user may have taken the first name.
    """
    chosen = os.environ.get("XDG_CACHE_HOME") or os.environ.get("HOME")
    if chosen:
        parent = Path(chosen) if os.environ.get("XDG_CACHE_HOME") else Path(chosen) / ".cache"
        # Path.exists raises below a folder that this user cannot enter, such as /root.
        existing = next((p for p in (parent, *parent.parents) if os.path.exists(p)), None)
        if existing is not None and os.access(existing, os.W_OK | os.X_OK):
            return parent / "slipform"
    first = Path(tempfile.gettempdir()) / f"slipform-{os.getuid()}"
    names = (first, *(first.with_name(f"{first.name}-{number}") for number in range(2, 100)))
    free = (x for x in names if not os.path.lexists(x) or (os.path.exists(x) and is_own(x)))
    return next(free, first)


def is_own(folder: Path) -> bool:
    """Whether this user owns a folder, and not everybody can write to it.

    Args:
        folder: An existing path. The user must also own it if it is a link.

    Raises:
        FileNotFoundError: There is no such path.
    """
    states = (os.lstat(folder), os.stat(folder))
    return all(state.st_uid == os.getuid() for state in states) and not states[1].st_mode & 0o002


def peak_resident_bytes() -> int:
    """Peak resident memory of this process alone, in bytes."""
    # ru_maxrss would include the memory of the parent at the time of the fork.
    return 1024 * _kib(Path("/proc/self/status"), "VmHWM:")


def resident_bytes() -> int:
    """Peak resident memory of this process plus the present private memory of its children."""
    import psutil

    total = peak_resident_bytes()
    for child in psutil.Process().children(recursive=True):
        try:
            rollup = Path(f"/proc/{child.pid}/smaps_rollup")
            total += 1024 * (_kib(rollup, "Private_Clean:") + _kib(rollup, "Private_Dirty:"))
        except (FileNotFoundError, ProcessLookupError):  # the child has ended
            continue
    return total


def resident_now() -> int:
    """Present resident memory of this process alone, in bytes."""
    return 1024 * _kib(Path("/proc/self/status"), "VmRSS:")


def _kib(path: Path, name: str) -> int:
    for line in path.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    return 0


def reset_peak(device: str) -> None:
    """Reset the peaks of memory of this process and of a device.

    Some containers do not allow it for the process. Its peak is then that since it began.

    Args:
        device: "cpu", "cuda" or "cuda:N".
    """
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # man 5 proc: VmHWM becomes VmRSS
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: str, *, alone: bool) -> dict[str, float]:
    """The peaks of memory, in bytes.

    Args:
        device: "cpu", "cuda" or "cuda:N".
        alone: No other process uses the device. This matters in a container, where the driver
            reports process numbers that this process does not know. If `alone`, all memory in use
            on the device is then counted. Otherwise device_used_bytes is left out.

    Returns:
        {"resident_bytes": ...}. On a GPU also allocated_bytes, reserved_bytes and
        device_used_bytes.
    """
    found = {"resident_bytes": float(resident_bytes())}
    if device.startswith("cuda"):
        import torch

        found["allocated_bytes"] = float(torch.cuda.max_memory_allocated(device))
        found["reserved_bytes"] = float(torch.cuda.max_memory_reserved(device))
        index = torch.device(device).index
        used = _device_used_bytes(torch.cuda.current_device() if index is None else index, alone)
        if used is not None:
            found["device_used_bytes"] = float(used)
    return found


def _device_used_bytes(index: int, alone: bool) -> int | None:
    """The bytes that NVML reports for this process. None: unknown."""
    try:
        import pynvml
    except ImportError:  # only bench needs it
        return None
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
