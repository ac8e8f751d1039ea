"""Measured speed of this machine in float32 and in bfloat16.

In: a device. Out: FLOP/s of a matrix product and of a training step of a convolution, for each
precision.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["measure"]

_REPEATS = 5
_SIDES = {"cpu": 1024, "cuda": 8192}  # of the matrices
_IMAGES = {"cpu": (8, 64, 56), "cuda": (128, 256, 56)}  # batch, channels, side


def measure(device: str) -> dict[str, dict[str, float]]:
    """Measure a matrix product and a convolution in every precision.

    The convolution runs forward and backward under autocast with channels_last, as in a training
    step. The repeats of the precisions alternate, so that other load on the machine affects both.

    Args:
        device: "cpu" or "cuda".

    Returns:
        {"matmul": {"float32": FLOP/s, "bfloat16": FLOP/s}, "convolution": the same}. Each number
        is the median of five repeats.
    """
    import torch

    precisions = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    cases = {"matmul": _matmul, "convolution": _convolution}
    found: dict[str, dict[str, float]] = {}
    for name, case in cases.items():
        works = {precision: case(device, dtype) for precision, dtype in precisions.items()}
        for work, _ in works.values():
            _seconds(work, device)  # the first call selects algorithms and allocates memory
        times: dict[str, list[float]] = {precision: [] for precision in works}
        for _ in range(_REPEATS):
            for precision, (work, _) in works.items():
                times[precision].append(_seconds(work, device))
        found[name] = {
            precision: flops / statistics.median(times[precision])
            for precision, (_, flops) in works.items()
        }
    return found


def _seconds(work: Callable[[], None], device: str) -> float:
    import torch

    began = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def _matmul(device: str, dtype: torch.dtype) -> tuple[Callable[[], None], float]:
    import torch

    size = _SIDES[device]
    left, right = (torch.ones(size, size, device=device, dtype=dtype) for _ in range(2))

    def work() -> None:
        torch.mm(left, right)

    return work, 2.0 * size**3


def _convolution(device: str, dtype: torch.dtype) -> tuple[Callable[[], None], float]:
    import torch

    batch, channels, side = _IMAGES[device]
    layer = torch.nn.Conv2d(channels, channels, 3, padding=1, bias=False, device=device)
    layer = layer.to(memory_format=torch.channels_last)
    images = torch.ones(batch, channels, side, side, device=device)
    images = images.to(memory_format=torch.channels_last).requires_grad_()

    def work() -> None:
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            output = layer(images)
        output.float().mean().backward()

    return work, 3 * 2.0 * batch * side**2 * channels**2 * 9
