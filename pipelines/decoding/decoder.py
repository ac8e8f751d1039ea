"""JPEGs -> pixels on CPU cores: DALI's decoder, for whole images or regions of them.

In: the bytes of JPEGs, and regions. Out: `Pixels`. One undecodable image ends a DALI pipeline. In
this case the pipeline is built again, each image of the batch is decoded by itself, and the bad
ones are reported. JPEGs without a complete header (`jpeg_header`) are not given to DALI.
"""

from __future__ import annotations

from threading import Lock, local
from typing import Any

import numpy as np
import numpy.typing as npt

from slipform.pipelines.decoding.dali import dali, survives_fork
from slipform.pipelines.decoding.jpeg_header import declares_at_least
from slipform.pipelines.decoding.pixels import Pixels
from slipform.pipelines.decoding.scaled import decode_scaled

__all__ = ["MOST_AT_ONCE", "Decoder", "images_at_once", "threads_to_decode"]

Int32 = npt.NDArray[np.int32]
MOST_AT_ONCE = 32  # images that a thread decodes at once
_BYTES_AT_ONCE = 96 << 20  # decoded pixels of a thread


def threads_to_decode(cores: int) -> int:
    """The number of threads that keep the cores busy: 1.5 per core.

    A thread that calls DALI sleeps while DALI's own thread works.

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
    """DALI's `decoders.image_slice`. Several threads may use one Decoder at the same time.

    Each calling thread gets a pipeline with one thread. In a pipeline with several threads, all of
    them wait for the slowest one at the end of each run. This cost a quarter of the streaming speed
    with runs of 32 images.

    Args:
        batch_size: The largest number of images in one call.
    """

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._own, self._building = local(), Lock()

    @staticmethod
    def _build(batch_size: int) -> Any:
        """Build a pipeline with one thread."""
        fn, pipeline_def, types = dali()

        # Outputs of the dynamic executor stay valid until the last reference is gone, not only
        # until the next run.
        @pipeline_def(
            batch_size=batch_size,
            num_threads=1,
            device_id=None,
            exec_dynamic=True,
            prefetch_queue_depth=1,
        )
        def graph() -> Any:
            return fn.decoders.image_slice(
                fn.external_source(name="jpeg", dtype=types.UINT8, ndim=1),
                fn.external_source(name="start", dtype=types.INT32, ndim=1),
                fn.external_source(name="shape", dtype=types.INT32, ndim=1),
                axis_names="WH",
                output_type=types.RGB,
            )

        pipeline = graph()
        pipeline.build()
        return survives_fork(pipeline)

    def decode(
        self,
        jpegs: list[npt.NDArray[np.uint8]],
        regions: Int32,
        scales: Int32 | None = None,
    ) -> Pixels:
        """Decode regions of JPEGs, or whole JPEGs at a fraction of their size.

        Args:
            jpegs: N JPEG streams, uint8 [bytes].
            regions: The region of each, int32 [N, 4] (x0, y0, x1, y1), in pixels.
            scales: int32 [N]. 2, 4 or 8: decode the region, or more of the image, at 1/2, 1/4 or
                1/8 of its size, if possible. 1: decode the region. None: all 1.

        Returns:
            The pixels, with the scales that were used. An undecodable image is black, and `bad`
            holds its position.
        """
        found = {}
        wanted = [] if scales is None else scales.tolist()
        for i, scale in enumerate(wanted):
            x0, y0, x1, y1 = regions[i].tolist()
            reduced = decode_scaled(jpegs[i], scale, (x0, y0, x1, y1)) if scale > 1 else None
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
        whole_headers = [
            declares_at_least(jpeg, int(x1), int(y1))
            for jpeg, (_, _, x1, y1) in zip(jpegs, regions, strict=True)
        ]
        if all(whole_headers):
            if not hasattr(self._own, "pipeline"):
                with self._building:
                    self._own.pipeline = self._build(self._batch_size)
            try:
                return self._run(self._own.pipeline, jpegs, regions)
            except RuntimeError:
                del self._own.pipeline
        parts: list[Pixels | None] = []
        single = self._build(1)
        for i, jpeg in enumerate(jpegs):
            try:
                parts.append(
                    self._run(single, [jpeg], regions[i : i + 1]) if whole_headers[i] else None
                )
            except RuntimeError:
                parts.append(None)
                single = self._build(1)
        bad = tuple(i for i, part in enumerate(parts) if part is None)
        whole = [part or _black(regions[i : i + 1]) for i, part in enumerate(parts)]
        joined = {
            name: np.concatenate([getattr(p, name) for p in whole])
            for name in ("addresses", "heights", "widths", "origin")
        }
        return Pixels(**joined, bad=bad, owner=whole)

    def _run(self, pipeline: Any, jpegs: list[npt.NDArray[np.uint8]], regions: Int32) -> Pixels:
        """Run a pipeline once. Raises RuntimeError if an image cannot be decoded."""
        pipeline.feed_input("jpeg", jpegs)
        pipeline.feed_input("start", np.ascontiguousarray(regions[:, :2]))
        pipeline.feed_input("shape", np.ascontiguousarray(regions[:, 2:] - regions[:, :2]))
        (images,) = pipeline.run()
        tensors = [images[i] for i in range(len(jpegs))]
        shapes = np.array([tensor.shape() for tensor in tensors], np.int32)
        addresses = np.array([tensor.data_ptr() for tensor in tensors], np.int64)
        return Pixels(
            addresses,
            shapes[:, 0].copy(),
            shapes[:, 1].copy(),
            regions[:, :2],
            owner=(images, tensors),
        )


def _black(region: Int32) -> Pixels:
    """A black image of the size of a region int32 [1, 4], which the Plan expects."""
    widths, heights = region[:, 2] - region[:, 0], region[:, 3] - region[:, 1]
    pixels = np.zeros((int(heights[0]), int(widths[0]), 3), np.uint8)
    return Pixels(np.array([pixels.ctypes.data]), heights, widths, region[:, :2], owner=pixels)
