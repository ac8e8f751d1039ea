"""Memory that is freed stays in the process, so that the next step on a CPU need not wait for it.

In: nothing. Out: settings of glibc's allocator, which hold for the whole process.

A training step frees its activations and gradients, and the next one allocates the same sizes. By
default glibc gives large blocks back to the system, which then clears each of their pages again: on
two cores of an AMD EPYC (Zen 4, torch 2.15, bfloat16) that took 19 % of the processor time of a
small convolutional net, 30 % of AlexNet's with 16 images and 13 % with 64, 3 % of ResNet-18's. The
peak of the memory grows by up to 17 %: large blocks have no address range of their own any more.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["give_back_freed_memory", "keep_freed_memory", "keep_from_now_on"]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_MOST = 2**31 - 1  # bytes; the parameter is an int
# What glibc raises both to by itself, once a program has freed blocks of this size.
_LARGEST_DEFAULTS = (32 * 2**20, 64 * 2**20)
_OWN = ("trim_threshold", "mmap_threshold", "mmap_max", "top_pad")  # of users who know better
_kept = False  # whether it is kept now; mallopt cannot be asked


@contextmanager
def keep_freed_memory(device: torch.device | str = "cpu") -> Iterator[bool]:
    """Let this process keep the memory that it frees, for a training loop of your own on CPU cores.

    A step frees its activations and gradients, and the next one needs as much again. To get the
    memory from the system each time takes up to 30 % of a step. `fit` does not need this: it keeps
    freed memory by itself. At the end, free memory is given to the system.

    It does nothing for a GPU, with a C library other than glibc, or if the environment has
    MALLOC_TRIM_THRESHOLD_, MALLOC_MMAP_THRESHOLD_ or the like.

    Args:
        device: The device of the training, such as `loader.device`.

    Returns:
        A context. Its value is whether freed memory is kept.

    Example:
        ```python
        import torch

        import slipform as sf

        with sf.Loader("data/shapes", "train", batch_size=32) as loader:
            model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(6))
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            with sf.keep_freed_memory(loader.device):
                for images, labels in loader:
                    optimizer.zero_grad()
                    torch.nn.functional.cross_entropy(model(images), labels).backward()
                    optimizer.step()
        ```
    """
    global _kept
    before = _kept
    if str(device).partition(":")[0] != "cpu" or not (before or keep_from_now_on()):
        yield False
        return
    try:
        yield True
    finally:
        if not before:
            _set(*_LARGEST_DEFAULTS)
            _kept = False
        give_back_freed_memory()


def keep_from_now_on() -> bool:
    """Let the allocator keep what is freed, and take large blocks from it.

    Nothing changes if the environment sets one of them (MALLOC_TRIM_THRESHOLD_ and others, also in
    GLIBC_TUNABLES), or if the C library has no such settings. Another allocator (LD_PRELOAD) does
    not read them.

    Returns:
        Whether the settings were accepted.
    """
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    if any(f"MALLOC_{name.upper()}_" in os.environ or name in tunables for name in _OWN):
        return False
    global _kept
    _kept = _set(_MOST, _MOST)
    return _kept


def _set(mmap_threshold: int, trim_threshold: int) -> bool:
    """Set both, and return whether they were accepted."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(
        mallopt(_M_MMAP_THRESHOLD, mmap_threshold) and mallopt(_M_TRIM_THRESHOLD, trim_threshold)
    )


def give_back_freed_memory() -> None:
    """Give the memory that is free to the system, as after a run in a notebook."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
