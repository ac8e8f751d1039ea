"""What `bench gpu` measures without our pipelines: facts, ceilings, the tests.

In: arguments that can be pickled; each function runs in a process of its own. Out: `Measured`
values. Nothing here needs a dataset.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slipform.bench.race.measure import estimate
from slipform.bench.race.worker import NotPossible
from slipform.bench.result.result import Estimate, Settings

REPEATS = 21
# What ours imports beyond Python and torch; a bare machine lacks some.
MODULES = (
    *("triton", "numba", "numpy", "cv2", "PIL", "pydantic", "simplejpeg", "nvidia.dali", "ffcv"),
    *("pynvml", "psutil", "safetensors", "tensorboard", "torchvision", "pytest", "pytest_timeout"),
)


@dataclass(frozen=True)
class Measured:
    """One row of a part.

    Args:
        what: Its name within the part.
        figures: What was measured.
        settings: What it was measured with, or facts.
        note: A sentence, "" for none.
    """

    what: str
    figures: dict[str, Estimate] = field(default_factory=dict)
    settings: Settings = field(default_factory=dict)
    note: str = ""


def seconds_of(call: Callable[[], Any], device: str, repeats: int = REPEATS) -> Estimate:
    """How long the device works on a call, after three calls that do not count.

    Args:
        call: Enqueues work.
        device: On a GPU the time between two events on its stream, else that of the call.
        repeats: How often it is measured.
    """
    import torch

    for _ in range(3):
        call()
    found = []
    for _ in range(repeats):
        if device.startswith("cuda"):
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            first.record()
            call()
            last.record()
            last.synchronize()
            found.append(first.elapsed_time(last) / 1e3)
        else:
            began = time.perf_counter()
            call()
            found.append(time.perf_counter() - began)
    return estimate(found)


def facts(device: str) -> list[Measured]:
    """Versions, the GPU, and which modules are missing."""
    import torch

    missing = [name for name in MODULES if not is_installed(name)]
    settings: Settings = {
        "torch": torch.__version__,
        "triton": _version("triton"),
        "cores": len(os.sched_getaffinity(0)),
        "missing": ", ".join(missing),
        "c_compiler": shutil.which("gcc") or shutil.which("cc") or "",
        "driver_capabilities": os.environ.get("NVIDIA_DRIVER_CAPABILITIES", ""),
    }
    if device.startswith("cuda"):
        properties = torch.cuda.get_device_properties(device)
        settings |= {
            "gpu": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "memory_bytes": properties.total_memory,
            "processors": properties.multi_processor_count,
            "cuda": torch.version.cuda or "",
            "cudnn": torch.backends.cudnn.version() or 0,
        }
    return [Measured("machine", settings=settings)]


def is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # the package that it is in
        return False


def _version(name: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def ceilings(device: str, size: int = 8192) -> list[Measured]:
    """What the memory and the matrix units give to the simplest code.

    Args:
        device: Where.
        size: Of the matrices; size * size * 64 bytes are copied.
    """
    import torch

    source = torch.zeros(size * size * 64, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copied = rate(seconds_of(lambda: target.copy_(source), device), 2.0 * source.numel())
    a = torch.ones(size, size, device=device, dtype=torch.bfloat16)
    product = rate(seconds_of(lambda: a @ a, device), 2.0 * size**3)
    return [
        Measured("copy", {"copy_bytes_per_second": copied}),
        Measured("product in bfloat16", {"product_flops_per_second": product}),
    ]


def rate(seconds: Estimate, amount: float) -> Estimate:
    return Estimate(
        median=amount / seconds.median,
        low=amount / seconds.high,
        high=amount / seconds.low,
        repeats=seconds.repeats,
    )


def tests(seconds: float) -> list[Measured]:
    """`pytest -m gpu` of this checkout.

    Args:
        seconds: They are ended then; what was printed until then counts.

    Raises:
        NotPossible: This is no checkout, or pytest is not installed.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / "tests").is_dir():
        raise NotPossible("the tests are in a checkout only")
    if not is_installed("pytest"):
        raise NotPossible("pytest is not installed")
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-rfE", "--color=no"]
    if not is_installed("pytest_timeout"):  # pyproject.toml sets its limit
        command += ["-W", "ignore::pytest.PytestConfigWarning"]
    with subprocess.Popen(
        [*command, "tests"],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        note = ""
        try:
            text, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            note = f"not done within {seconds:.0f} s; "
            os.killpg(process.pid, 9)
            text, _ = process.communicate()
    return [tests_row(text, note)]


def tests_row(text: str, note: str) -> Measured:
    """The row of what pytest printed.

    Args:
        text: Its output with -q -rfE.
        note: What is known beside it.
    """
    counts = {
        word: int(number)
        for number, word in re.findall(r"(\d+) (passed|failed|skipped|errors?)\b", text)
    }
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", text, re.MULTILINE)
    figures = {
        f"{word.removesuffix('s')}_tests": estimate([float(counts[word])]) for word in counts
    }
    last = text.strip().splitlines()[-1:] if not counts else []
    return Measured("pytest -m gpu", figures, note=note + " ".join([*failed, *last])[:2000])
