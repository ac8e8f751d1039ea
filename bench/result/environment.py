"""The environment of a result: machine, versions, commit, date.

In: this machine. Out: an `Environment`. torch is not imported: versions are read from the metadata
of the installed packages.
"""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from slipform.bench.result.result import Environment
from slipform.pipelines.machine import num_cores, processor_name
from slipform.pipelines.number_text import number_of
from slipform.pipelines.project import project

__all__ = ["command_line", "commit_of", "stamp"]

_PACKAGES = (
    *("slipform", "torch", "torchvision", "triton", "numpy", "numba", "opencv-python-headless"),
    *(
        "nvidia-dali-cuda120",
        "nvidia-dali-cuda130",
        "ffcv",
        "timm",
        "spdl",
        "torchcodec",
        "turboloader",
        "cleanlab",
    ),
)
# Patterns of git, whose * also matches folders.
_USED = (
    *(f"{name}/*.py" for name in ("bench", "models", "pipelines", "preprocess", "slipform")),
    *("train/*.py", "train/recipes/*.toml"),
)
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def stamp() -> Environment:
    """Describe this machine now: hardware, versions, commit, date and load."""
    import psutil

    gpu, gpu_memory_bytes, driver = _gpu()
    cores = num_cores()
    cpu = processor_name()
    return Environment(
        machine=f"{gpu or cpu}, {number_of(cores, 'core')}",
        cpu=cpu,
        cores=cores,
        memory_bytes=int(psutil.virtual_memory().total),
        gpu=gpu,
        gpu_memory_bytes=gpu_memory_bytes,
        driver=driver,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        versions=_versions(),
        threads={"cores": cores, **_threads()},
        commit=commit_of(Path(__file__).resolve()),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        load_average=round(os.getloadavg()[0], 2),
    )


def command_line() -> str:
    """The command line of this process, with the name of the program instead of its path."""
    program = Path(sys.argv[0]).name
    ours = program in ("bench", "cli.py", "slipform", "__main__.py")
    name = {"cli.py": "bench", "__main__.py": "slipform"}.get(program, program)
    return shlex.join([name if ours else sys.argv[0], *sys.argv[1:]])


def _threads() -> dict[str, int]:
    """The numbers of threads that the environment sets; the first of a list, as OpenMP allows."""
    first = {name: os.environ.get(name, "").split(",")[0].strip() for name in _THREAD_VARIABLES}
    return {name: int(text) for name, text in first.items() if text.isdecimal()}


def _gpu() -> tuple[str, int, str]:
    """Name, memory in bytes and driver version of the first NVIDIA GPU; ("", 0, "") where there is
    none. Without pynvml torch knows all but the driver."""
    try:
        import pynvml
    except ImportError:
        return _gpu_of_torch()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return "", 0, ""
    try:
        if pynvml.nvmlDeviceGetCount() == 0:
            return "", 0, ""
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        total = int(pynvml.nvmlDeviceGetMemoryInfo(handle).total)
        return (
            str(pynvml.nvmlDeviceGetName(handle)),
            total,
            str(pynvml.nvmlSystemGetDriverVersion()),
        )
    except pynvml.NVMLError:  # a part of a GPU, or a GPU that shares its memory with the processor
        return _gpu_of_torch()
    finally:
        pynvml.nvmlShutdown()


def _gpu_of_torch() -> tuple[str, int, str]:
    import torch

    if not torch.cuda.is_available():
        return "", 0, ""
    properties = torch.cuda.get_device_properties(0)
    return properties.name, properties.total_memory, ""


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = project().version if name == "slipform" else version(name)
        except PackageNotFoundError:
            continue
    return found


def commit_of(module: Path) -> str:
    """The commit of the checkout that a module of Slipform is in.

    Args:
        module: The path of a file two folders below the root of the checkout.

    Returns:
        "" without a checkout. With "-dirty" at its end if tracked files differ, or if git does not
        track a file that Slipform would use: a module of a room, a recipe.
    """
    root = module.resolve().parents[2]
    try:
        if not _git(root, "ls-files", "--", str(module)):
            return ""  # installed, perhaps below the repository of a user
        found = _git(root, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
        untracked = _git(root, "ls-files", "--others", "--exclude-standard", "--", *_USED)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return ""
    return f"{found}-dirty" if untracked and found and not found.endswith("-dirty") else found


def _git(root: Path, *words: str) -> str:
    """The output of a git command; "" if it fails."""
    command = ["git", "-C", str(root), *words]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    return ended.stdout.strip() if ended.returncode == 0 else ""
