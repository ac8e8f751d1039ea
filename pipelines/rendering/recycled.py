"""Buffers whose memory is used again when their tensors are freed: `Recycled`.

In: a shape and a dtype. Out: tensors on the CPU. The memory of a tensor that is freed goes back to
the system if it is large, which then clears each page of the next one again: that took longer than
the pixels of a batch that is augmented from memory.
"""

from __future__ import annotations

import weakref
from collections import deque

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["Recycled"]

_Bytes = npt.NDArray[np.uint8]


class Recycled:
    """Makes tensors of one shape. Nobody needs to say that a tensor is not used any more.

    A tensor lives as long as anything refers to its memory, such as a view of it. It is made from
    an array that torch frees then, and a weak reference to this array tells when.

    Args:
        shape: The shape.
        dtype: The data type.
        most: How many freed buffers are kept.
    """

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, most: int) -> None:
        self._shape, self._dtype = shape, dtype
        self._free: deque[_Bytes] = deque(maxlen=most)

    def take(self) -> Tensor:
        """A tensor with any content. One thread at a time may call this; any may free tensors."""
        try:
            memory = self._free.pop()  # the last one may still be in the cache of a core
        except IndexError:
            memory = torch.empty(self._shape, dtype=self._dtype).view(-1).view(torch.uint8).numpy()
        lease = memory.view()
        weakref.finalize(lease, self._free.append, memory).atexit = False
        return torch.from_numpy(lease).view(self._dtype).view(self._shape)
