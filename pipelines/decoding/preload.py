"""Decoding of all images of a beton, or of one: `resident` keeps all of them in memory.

In: a beton. Out: `Decoded`, which says where the uint8 pixels of each image are. Raw samples stay
in the mapped file, unless one buffer is asked for, as for an upload to a GPU.
"""

from __future__ import annotations

import ctypes
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slipform.pipelines.beton import Beton
from slipform.pipelines.beton_format import RAW
from slipform.pipelines.decoding.decoder import (
    Decoder,
    images_at_once,
    threads_to_decode,
)
from slipform.pipelines.decoding.integrity import FirstRead
from slipform.pipelines.decoding.pixels import Pixels, blacken
from slipform.pipelines.decoding.shared import shared_memory
from slipform.pipelines.errors import ConfigError
from slipform.pipelines.machine import free_memory_bytes

__all__ = ["Decoded", "decode_all", "decode_one"]


@dataclass(frozen=True)
class Decoded:
    """The decoded images of a beton.

    Attributes:
        addresses: int64 [N], addresses of contiguous uint8 [H, W, 3] RGB pixels.
        bad: bool [N], True for images that could not be read. They are black.
        buffer: uint8 [bytes], the pixels that were decoded or copied. Other processes may use it.
        beton: The stored images. It keeps the raw pixels alive that are not in `buffer`.
        black: uint8, the pixels of damaged raw images that are not in `buffer`.
    """

    addresses: npt.NDArray[np.int64]
    bad: npt.NDArray[np.bool_]
    buffer: npt.NDArray[np.uint8]
    beton: Beton
    black: npt.NDArray[np.uint8]

    @property
    def offsets(self) -> npt.NDArray[np.int64]:
        """int64 [N]: where each image begins in `buffer`, if all images are in it."""
        return self.addresses - self.buffer.ctypes.data


def decode_all(
    beton: Beton,
    threads: int,
    first_read: FirstRead,
    one_buffer: bool = False,
    shared: bool = False,
) -> Decoded:
    """Check and decode all images of a beton.

    Args:
        beton: The stored images.
        threads: Cores to be used.
        first_read: Checks the samples, and says whether bad ones are skipped.
        one_buffer: Copy raw samples, too, so that all images are in one buffer. Those of an object
            store are always copied.
        shared: Other processes of the run on this machine call this function for the same beton.
            One of them decodes, and all use its memory.

    Returns:
        The decoded images.

    Raises:
        ConfigError: The decoded images need more memory than is free.
        SampleError: A sample cannot be read, and `first_read` does not skip bad ones.
    """
    one_buffer = one_buffer or not beton.stays
    moved = np.arange(len(beton)) if one_buffer else np.flatnonzero(beton.modes != RAW)
    starts = np.concatenate(
        [[0], np.cumsum(beton.heights[moved].astype(np.int64) * beton.widths[moved] * 3)]
    )
    num_pixel_bytes = int(starts[-1])

    def fill(memory: npt.NDArray[np.uint8]) -> None:
        """Pixels, then a byte for each image: 1 if it is bad."""
        if num_pixel_bytes > (free := free_memory_bytes()):  # none of it is used before
            raise ConfigError(
                f"the decoded images of {beton.path} take {num_pixel_bytes:,} bytes, and {free:,}"
                ' are free: executor = "resident" is not possible. Use executor = "host", or prep'
                " with --shorter-side."
            )
        bad = memory[num_pixel_bytes:]
        at = np.zeros(len(beton), np.int64)
        at[moved] = memory.ctypes.data + starts[:-1]
        for part in beton.parts():
            sound = np.ones(len(part), bool)
            sound[first_read.bad(part)] = False
            bad[part[~sound]] = 1
            raw = beton.modes[part] == RAW
            for i in part[raw & sound] if one_buffer else ():
                memory[starts[i] : starts[i + 1]] = beton.bytes_of(int(i))
            bad[_decode_jpegs(beton, part[~raw & sound], threads, first_read, at)] = 1

    key = f"{beton.identity} {one_buffer} {first_read.skips}" if shared else None
    memory = shared_memory(key, num_pixel_bytes + len(beton), fill)
    addresses, bad = beton.addresses.copy(), memory[num_pixel_bytes:].view(bool)
    black = blacken(addresses, beton, np.arange(len(beton)), np.flatnonzero(bad).tolist())
    addresses[moved] = memory.ctypes.data + starts[:-1]
    return Decoded(addresses, bad, memory[:num_pixel_bytes], beton, black)


def _decode_jpegs(
    beton: Beton,
    jpegs: npt.NDArray[np.int64],
    threads: int,
    first_read: FirstRead,
    addresses: npt.NDArray[np.int64],
) -> list[int]:
    """Decode JPEGs to addresses. Returns the indices of those that cannot be decoded."""
    decoder = Decoder()
    part = images_at_once(beton.heights[jpegs], beton.widths[jpegs])
    bad: list[int] = []

    def decode(at: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], tuple[int, ...]]:
        whole = np.stack([0 * at, 0 * at, beton.widths[at], beton.heights[at]], axis=1).astype(
            np.int32
        )
        pixels = decoder.decode([beton.bytes_of(i) for i in at], whole)
        _copy(pixels, addresses[at])
        return at, pixels.bad

    with ThreadPoolExecutor(threads_to_decode(threads)) as pool:
        for at, undecodable in pool.map(
            decode, [jpegs[i : i + part] for i in range(0, len(jpegs), part)]
        ):
            bad += at[first_read.undecodable(at, list(undecodable))].tolist()
    return bad


def _copy(pixels: Pixels, addresses: npt.NDArray[np.int64]) -> None:
    for i, address in enumerate(addresses):
        if i not in pixels.bad:  # an undecodable image stays black
            ctypes.memmove(
                int(address),
                int(pixels.addresses[i]),
                int(pixels.heights[i]) * int(pixels.widths[i]) * 3,
            )


def decode_one(beton: Beton, index: int) -> npt.NDArray[np.uint8]:
    """Check and decode one image.

    Args:
        beton: The stored images.
        index: Its position in the beton.

    Returns:
        uint8 [H, W, 3] RGB, a copy.

    Raises:
        SampleError: The sample cannot be read.
    """
    at = np.array([index])
    with beton.held(at):
        return _decode_held(beton, index)


def _decode_held(beton: Beton, index: int) -> npt.NDArray[np.uint8]:
    at, first_read = np.array([index]), FirstRead(beton, "error")
    first_read.bad(at)
    height, width = int(beton.heights[index]), int(beton.widths[index])
    if beton.modes[index] == RAW:
        return beton.raw(index).copy()
    whole = np.array([[0, 0, width, height]], np.int32)
    pixels = Decoder().decode([beton.bytes_of(index)], whole)
    first_read.undecodable(at, list(pixels.bad))
    image = np.empty((height, width, 3), np.uint8)
    _copy(pixels, np.array([image.ctypes.data]))
    return image
