"""Reading of the pixels that samples need, on CPU cores: `CoreReader`, and `stage` for a GPU.

In: samples and their Plan. Out: `Pixels` in host memory. Raw pixels stay in the mapped file. Only
the regions of JPEGs that are needed are decoded. `stage` copies all of them to one buffer for a
transfer to a GPU.
"""

from __future__ import annotations

import time
from dataclasses import replace
from threading import Lock
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from slipform.pipelines.beton import Beton
from slipform.pipelines.beton_format import JPG, RAW
from slipform.pipelines.decoding.decoder import Decoder
from slipform.pipelines.decoding.integrity import FirstRead
from slipform.pipelines.decoding.pixels import Pixels, blacken
from slipform.pipelines.plan.plan import Plan
from slipform.pipelines.rendering.boxes import copy_boxes
from slipform.pipelines.rendering.launch import READ_AFTER
from slipform.pipelines.rendering.region import decode_scales, regions_needed

__all__ = ["CoreReader", "Staged", "stage"]

_Int64 = npt.NDArray[np.int64]
_ALIGNMENT = 16  # bytes: each staged image begins at a multiple


class CoreReader:
    """Reads samples on the calling thread. Several threads may use one CoreReader.

    Args:
        beton: The stored images.
        first_read: Checks the samples, and says whether bad ones are skipped.
        scales: Whether large JPEGs may be decoded at a fraction of their size.

    Attributes:
        decodes: Whether any image is a JPEG.
        seconds: Seconds of work since the start, over all threads: {"read_seconds": ...,
            "decode_seconds": ...}.
    """

    def __init__(self, beton: Beton, first_read: FirstRead, scales: bool) -> None:
        self._beton, self._first_read, self._scales = beton, first_read, scales
        self._decoder = Decoder()
        self.decodes = bool((beton.modes == JPG).any())
        self.seconds, self._lock = {"read_seconds": 0.0, "decode_seconds": 0.0}, Lock()

    def read(self, indices: _Int64, plan: Plan) -> Pixels:
        """Check and decode samples.

        Args:
            indices: int64 [N], the samples.
            plan: Their Plan.

        Returns:
            Their pixels.

        Raises:
            SampleError: A sample cannot be read, and bad ones are not skipped.
        """
        began = time.perf_counter()
        damaged = self._first_read.bad(indices)
        read = time.perf_counter()
        pixels = self._decode(indices, plan, damaged)
        with self._lock:
            self.seconds["read_seconds"] += read - began
            self.seconds["decode_seconds"] += time.perf_counter() - read
        return replace(pixels, bad=tuple(sorted({*damaged, *pixels.bad})))

    def _decode(self, indices: _Int64, plan: Plan, damaged: list[int]) -> Pixels:
        """The pixels of samples: raw ones from the mapped file, JPEGs decoded, damaged ones black.

        Args:
            indices, plan: As for `read`.
            damaged: Positions in `indices`.
        """
        beton = self._beton
        addresses = beton.addresses[indices]
        black = blacken(addresses, beton, indices, damaged)
        stored = Pixels(addresses, *beton.shapes.of(indices), owner=(beton, black))
        if not self.decodes:
            return stored
        at = np.flatnonzero(beton.modes[indices] != RAW)
        if not len(at):
            return stored
        regions = regions_needed(plan, stored.heights, stored.widths)
        scales = None
        if self._scales:
            scales = decode_scales(plan, stored.heights, stored.widths)[at]
        nothing = beton.data[:0]  # which is no JPEG
        jpegs = [nothing if k in damaged else beton.bytes_of(indices[k]) for k in at.tolist()]
        decoded = self._decoder.decode(
            jpegs, regions[at], scales, lambda k: beton.bytes_after(indices[at[k]])
        )
        bad = tuple(self._first_read.undecodable(indices, [int(at[k]) for k in decoded.bad]))
        if len(at) == len(indices):
            return replace(decoded, bad=bad)
        stored = replace(
            stored,
            origin=np.zeros((len(indices), 2), np.int32),
            scales=np.ones(len(indices), np.int32),
            bad=bad,
            owner=(beton, black, decoded),
        )
        for name in ("addresses", "heights", "widths", "origin", "scales"):
            if getattr(decoded, name) is not None:
                getattr(stored, name)[at] = getattr(decoded, name)
        return stored


class Staged(NamedTuple):
    """Images in one buffer of host memory.

    Attributes:
        buffer: uint8, pinned if it goes to a GPU.
        starts: int64 [N], where each image begins in it.
        pixels: Sizes, origins and scales of the images. Its addresses are those of the sources.
    """

    buffer: Tensor
    starts: _Int64
    pixels: Pixels


def stage(
    pixels: Pixels,
    plan: Plan,
    heights: npt.NDArray[np.int32],
    widths: npt.NDArray[np.int32],
    pinned: bool,
) -> Staged:
    """Copy images to one buffer. Only the region of a whole image that is needed is copied.

    torch keeps pinned memory that was freed. It uses it again when the transfer from it is done.

    Args:
        pixels: The images.
        plan: The Plan of their samples.
        heights: int32 [N], heights of the stored images in pixels.
        widths: int32 [N], widths of the stored images in pixels.
        pinned: Whether the buffer is pinned.

    Returns:
        The buffer and the images in it.
    """
    boxes = np.zeros((len(plan), 4), np.int32)
    boxes[:, 2], boxes[:, 3] = pixels.widths, pixels.heights
    whole = (pixels.widths == widths) & (pixels.heights == heights)
    boxes[whole] = regions_needed(plan, heights, widths)[whole]
    sides = boxes[:, 2:] - boxes[:, :2]
    sizes = sides[:, 0].astype(np.int64) * sides[:, 1] * 3
    ends = np.cumsum(-(-sizes // _ALIGNMENT) * _ALIGNMENT)
    starts = np.concatenate([[0], ends[:-1]])
    size = int(ends[-1]) + READ_AFTER
    buffer = torch.empty(size, dtype=torch.uint8, pin_memory=pinned)
    copy_boxes(pixels.addresses, pixels.widths, boxes, buffer.numpy(), starts)
    moved = replace(
        pixels,
        heights=sides[:, 1].copy(),
        widths=sides[:, 0].copy(),
        origin=boxes[:, :2] if pixels.origin is None else pixels.origin + boxes[:, :2],
    )
    return Staged(buffer, starts, moved)
