"""JPEGs -> pixels on CPU cores: whole images, regions, or regions at a reduced size.

In: the bytes of JPEGs, and regions. Out: `Pixels`. Undecodable images are black and reported. JPEGs
without a complete header (`jpeg_header`) are not given to nvImageCodec, which DALI uses, too.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import local
from typing import Any

import numpy as np
import numpy.typing as npt

from slipform.pipelines.decoding.dali import nvimgcodec, survives_fork
from slipform.pipelines.decoding.jpeg_header import declares_at_least
from slipform.pipelines.decoding.pixels import Pixels
from slipform.pipelines.decoding.scaled import decode_scaled

__all__ = ["MOST_AT_ONCE", "Decoder", "images_at_once", "threads_to_decode"]

Int32 = npt.NDArray[np.int32]
MOST_AT_ONCE = 32  # images that a thread decodes at once
_BYTES_AT_ONCE = 96 << 20  # decoded pixels of a thread


def threads_to_decode(cores: int) -> int:
    """The number of threads that keep the cores busy: 1.5 per core.

    A thread that waits for the interpreter or for a buffer leaves its core to another one.

    Args:
        cores: Cores to be used.
    """
    return cores + (cores + 1) // 2


def images_at_once(heights: Int32, widths: Int32) -> int:
    """The number of images that a thread decodes before it renders them.

    Args:
        heights: Of the images, int32 [N], in pixels.
        widths: Of the images, int32 [N], in pixels.

    Returns:
        MOST_AT_ONCE, or fewer if the largest image has more than one megapixel: the decoded pixels
        of a thread take 96 MiB at most, or one image.
    """
    largest = int((heights.astype(np.int64) * widths).max(initial=1)) * 3
    return max(1, min(MOST_AT_ONCE, _BYTES_AT_ONCE // largest))


class Decoder:
    """nvImageCodec's decoder on CPU cores. Several threads may use one Decoder at the same time.

    Each calling thread gets its own decoder, which works in that thread: no thread waits for
    another. A DALI pipeline per thread took 18 % more processor time for Caltech-101 (217 instead
    of 185 us per image, random resized crops, the same pixels), and started one more thread.
    """

    def __init__(self) -> None:
        self._own = local()

    def _codec(self) -> tuple[Any, Any]:
        """nvImageCodec, and the decoder of this thread."""
        codec = nvimgcodec()
        if not hasattr(self._own, "decoder"):
            backends = [codec.Backend(codec.BackendKind.CPU_ONLY)]
            self._own.decoder = survives_fork(
                codec.Decoder(
                    device_id=codec.NVIMGCODEC_DEVICE_CPU_ONLY,
                    max_num_cpu_threads=1,
                    backends=backends,
                )
            )
        return codec, self._own.decoder

    def decode(
        self,
        jpegs: list[npt.NDArray[np.uint8]],
        regions: Int32,
        scales: Int32 | None = None,
        after: Callable[[int], npt.NDArray[np.uint8] | None] = lambda _: None,
    ) -> Pixels:
        """Decode regions of JPEGs, or whole JPEGs at a fraction of their size.

        Args:
            jpegs: N JPEG streams, uint8 [bytes].
            regions: The region of each, int32 [N, 4] (x0, y0, x1, y1), in pixels.
            scales: int32 [N]. 2, 4 or 8: decode the region, or more of the image, at 1/2, 1/4 or
                1/8 of its size, if possible. 1: decode the region. None: all 1.
            after: For the position of a JPEG in `jpegs`: `Beton.bytes_after` of it.

        Returns:
            The pixels, with the scales that were used. An undecodable image is black, and `bad`
            holds its position.
        """
        found = {}
        wanted = [] if scales is None else scales.tolist()
        for i, scale in enumerate(wanted):
            if scale == 1:
                continue
            x0, y0, x1, y1 = regions[i].tolist()
            reduced = decode_scaled(jpegs[i], scale, (x0, y0, x1, y1), after(i))
            if reduced is not None:
                found[i] = reduced
        if not found:
            return self._decode_regions(jpegs, regions)
        rest = [i for i in range(len(jpegs)) if i not in found]
        others = self._decode_regions([jpegs[i] for i in rest], regions[rest]) if rest else None
        used = np.array([wanted[i] if i in found else 1 for i in range(len(jpegs))], np.int32)
        joined = Pixels(
            np.empty(len(jpegs), np.int64),
            np.empty(len(jpegs), np.int32),
            np.empty(len(jpegs), np.int32),
            np.zeros((len(jpegs), 2), np.int32),
            used,
            tuple(rest[i] for i in others.bad) if others else (),
            owner=(found, others),
        )
        assert joined.origin is not None
        for i, (pixels, origin) in found.items():
            joined.addresses[i], joined.origin[i] = pixels.ctypes.data, origin
            joined.heights[i], joined.widths[i] = pixels.shape[:2]
        if others is not None:
            for name in ("addresses", "heights", "widths", "origin"):
                getattr(joined, name)[rest] = getattr(others, name)
        return joined

    def _decode_regions(self, jpegs: list[npt.NDArray[np.uint8]], regions: Int32) -> Pixels:
        """`decode` with all scales 1."""
        codec, decoder = self._codec()
        widths, heights = (regions[:, 2:] - regions[:, :2]).T.copy()
        images = [
            np.empty((height, width, 3), np.uint8)
            for height, width in zip(heights.tolist(), widths.tolist(), strict=True)
        ]
        streams, at = [], []
        for i, (x0, y0, x1, y1) in enumerate(regions.tolist()):
            if not declares_at_least(jpegs[i], x1, y1):
                continue
            try:
                whole = codec.CodeStream(jpegs[i])
                streams.append(whole.get_sub_code_stream(region=codec.Region(y0, x0, y1, x1)))
                at.append(i)
            except RuntimeError:  # its segments cannot be read
                continue
        outputs = [codec.as_image(images[i]) for i in at]
        found = decoder.decode(streams, images=outputs) if at else []
        good = {i for i, image in zip(at, found, strict=True) if image is not None}
        bad = tuple(i for i in range(len(jpegs)) if i not in good)
        for i in bad:
            images[i][:] = 0
        addresses = np.array([image.ctypes.data for image in images], np.int64)
        return Pixels(addresses, heights, widths, regions[:, :2], bad=bad, owner=images)
