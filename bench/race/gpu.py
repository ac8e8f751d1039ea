"""Measurements of `bench gpu` without Slipform's pipelines: facts, upper limits, the tests.

In: arguments that can be pickled; each function runs in its own process. Out: `Measured` values. No
dataset is needed.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slipform.bench.race.measure import estimate
from slipform.bench.race.worker import NotPossible
from slipform.bench.result.result import Estimate, Settings
from slipform.pipelines.machine import num_cores

__all__ = [
    "REPEATS",
    "Measured",
    "ceilings",
    "facts",
    "is_installed",
    "seconds_of",
    "tests",
    "tests_row",
]

REPEATS = 21
_TEST_PROCESSES = 8
_ALONE = "memory_does_not_grow"  # this test counts the memory of all processes of the GPU
_REPORT_SECONDS = 10.0  # for pytest to list the failures after an interruption
# The modules that Slipform imports besides torch. Some may be missing on a new machine.
_MODULES = (
    *("triton", "numba", "numpy", "cv2", "PIL", "pydantic", "simplejpeg", "nvidia.dali", "ffcv"),
    *("pynvml", "psutil", "safetensors", "tensorboard", "torchvision", "pytest", "pytest_timeout"),
)


@dataclass(frozen=True)
class Measured:
    """A row of a part.

    Attributes:
        what: The name of the row within its part.
        figures: Quantity -> its estimate.
        settings: The settings of the measurement, or facts.
        note: A remark; "" for none.
    """

    what: str
    figures: dict[str, Estimate] = field(default_factory=dict)
    settings: Settings = field(default_factory=dict)
    note: str = ""


def seconds_of(call: Callable[[], Any], device: str, repeats: int = REPEATS) -> Estimate:
    """The seconds that a device works on a call, after up to three calls as a warm-up.

    Args:
        call: A function that launches work on the device.
        device: A GPU: the time is that between two events on its stream. "cpu": the time of the
            call.
        repeats: The number of measurements. Fewer than three have as many calls as a warm-up.
    """
    import torch

    for _ in range(min(3, repeats)):
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
    """The versions, the properties of the GPU, and the missing modules.

    Args:
        device: "cpu", "cuda" or "cuda:N".
    """
    import torch

    missing = [name for name in _MODULES if not is_installed(name)]
    settings: Settings = {
        "torch": torch.__version__,
        "triton": _version("triton"),
        "cores": num_cores(),
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
    """Whether a module can be imported.

    Args:
        name: The name of the module, such as "nvidia.dali".
    """
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # its package is missing
        return False


def _version(name: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def ceilings(device: str, size: int = 8192) -> list[Measured]:
    """The rate of a copy in memory, and of a matrix product: upper limits for other code.

    Args:
        device: The GPU.
        size: The side of the matrices. The copy has size * size * 64 bytes.
    """
    import torch

    # Random numbers, as in real work: some GPUs multiply zeros faster.
    source = torch.randint(0, 256, (size * size * 64,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copied = _rate(seconds_of(lambda: target.copy_(source), device), 2.0 * source.numel())
    a = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    product = _rate(seconds_of(lambda: a @ a, device), 2.0 * size**3)
    return [
        Measured("copy", {"copy_bytes_per_second": copied}),
        Measured("product in bfloat16", {"product_flops_per_second": product}),
    ]


def _rate(seconds: Estimate, amount: float) -> Estimate:
    return Estimate(
        median=amount / seconds.median,
        low=amount / seconds.high,
        high=amount / seconds.low,
        repeats=seconds.repeats,
    )


def tests(seconds: float) -> list[Measured]:
    """Run `pytest -m gpu` in this checkout.

    Args:
        seconds: The time limit. The results until then count.

    Raises:
        NotPossible: There are no tests here, or pytest is not installed.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / "tests").is_dir():
        raise NotPossible("the tests are in a checkout only")
    if not is_installed("pytest"):
        raise NotPossible("pytest is not installed")
    # Other files may import packages that are not installed here. A second -q would hide the
    # counts.
    files = [
        str(path)
        for path in sorted((root / "tests").rglob("test_*.py"))
        if "pytest.mark.gpu" in path.read_text(encoding="utf-8")
    ]
    command = [sys.executable, "-P", "-m", "pytest", "-m", "gpu", "-rfE", "--color=no"]
    command += ["-o", "addopts=--import-mode=importlib", "-p", "no:benchmark"]
    if not is_installed("pytest_timeout"):  # pyproject.toml sets its limit
        command += ["-W", "ignore::pytest.PytestConfigWarning"]
    processes, runs = min(_TEST_PROCESSES, num_cores() // 2), [[*command, *files]]
    if processes > 1 and is_installed("xdist"):  # most of their time is compilation on CPU cores
        together = ["-n", str(processes), "-k", f"not {_ALONE}"]
        runs = [[*command, *together, *files], [*command, "-k", _ALONE, *files]]
    ends, text, note = time.monotonic() + seconds, "", ""
    for run in runs:
        more, late = _pytest(run, root, max(0.0, ends - time.monotonic()))
        text, note = text + more, note or late
    return [tests_row(text, note)]


def _pytest(command: list[str], root: Path, seconds: float) -> tuple[str, str]:
    """Run pytest for at most some seconds. Return its output, and a remark if it was stopped."""
    with subprocess.Popen(
        command,
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
            text = _stopped(process)
        with suppress(ProcessLookupError):  # processes of tests would disturb what is measured next
            os.killpg(process.pid, signal.SIGKILL)
    return text, note


def _stopped(process: subprocess.Popen[str]) -> str:
    """End pytest and its processes. Return its output, with the failures so far if it writes them
    in time."""
    os.kill(process.pid, signal.SIGINT)
    try:
        text, _ = process.communicate(timeout=_REPORT_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        text, _ = process.communicate()
    return text


def tests_row(text: str, note: str) -> Measured:
    """Make a row from the output of pytest.

    Args:
        text: The output with -rfE, perhaps of several runs.
        note: A remark to put first.
    """
    counts: Counter[str] = Counter()
    for number, word in re.findall(r"(\d+) (passed|failed|skipped|errors?)\b", text):
        counts[word.removesuffix("s")] += int(number)
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+.{,150})", text, re.MULTILINE)
    figures = {f"{word}_tests": estimate([float(counts[word])]) for word in counts}
    last = text.strip().splitlines()[-1:] if not counts else []
    return Measured("pytest -m gpu", figures, note=note + "; ".join([*failed, *last])[:4000])
