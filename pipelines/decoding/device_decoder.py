"""JPEGs -> pixels in the memory of a GPU: `DeviceDecoder`, DALI's `mixed` decoder.

In: the bytes of JPEGs. Out: the addresses of whole images on the device. Tests use DALI's decoder
for CPU cores instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock, local
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from slipform.pipelines.decoding.dali import dali, survives_fork
from slipform.pipelines.decoding.decoder import Decoder
from slipform.pipelines.decoding.jpeg_header import declares_at_least
from slipform.pipelines.decoding.pixels import Pixels

__all__ = ["DeviceDecoder", "decoder_options", "is_of_an_image", "undecodable"]

_Int32 = npt.NDArray[np.int32]
_Jpegs = Sequence[npt.NDArray[np.uint8]]
_MAX_PREALLOCATED_BYTES = 1 << 30  # of decoded pixels, for the hardware decoder


def decoder_options(batch_size: int, height: int, width: int) -> dict[str, Any]:
    """The options of DALI's decoder on a GPU.

    hw_decoder_load = 1: only the format of a JPEG decides whether the hardware decodes it. Any
    other value gives the first images of a batch to the hardware. jpeg_fancy_upsampling: color is
    enlarged as on a CPU. The size hints: memory is allocated once. It would otherwise grow with
    each larger image, and the GPU would wait. affine = False: the threads are not bound to the
    cores that launch kernels.

    Args:
        batch_size: The largest number of images in a batch.
        height: The largest height of an image in pixels.
        width: The largest width of an image in pixels.
    """
    options = {"hw_decoder_load": 1.0, "jpeg_fancy_upsampling": True, "affine": False}
    if 0 < batch_size * width * height * 3 <= _MAX_PREALLOCATED_BYTES:
        options |= {"preallocate_width_hint": width, "preallocate_height_hint": height}
    return options


def is_of_an_image(error: RuntimeError) -> bool:
    """Whether an image may have caused an error of a pipeline, and not, for example, full memory.

    The message names the operator.

    Args:
        error: The error of DALI.
    """
    text = str(error)
    return "decoders" in text and "out of memory" not in text and "MemoryAllocation" not in text


def undecodable(jpegs: _Jpegs, heights: _Int32, widths: _Int32) -> list[int]:
    """Find the JPEGs that cannot be decoded, by decoding each one on a CPU core.

    Args:
        jpegs: N JPEG streams, uint8 [bytes].
        heights: int32 [N], their heights in pixels.
        widths: int32 [N], their widths in pixels.

    Returns:
        Positions in `jpegs`.
    """
    whole = np.zeros((len(jpegs), 4), np.int32)
    whole[:, 2], whole[:, 3] = widths, heights
    return list(Decoder().decode(list(jpegs), whole).bad)


class DeviceDecoder:
    """DALI's `decoders.image`. Several threads may use one DeviceDecoder at the same time.

    Each calling thread gets its own pipeline, so that one can read codes on CPU cores while the GPU
    decodes for another.

    Args:
        device: The GPU. A CPU: for tests.
        batch_size: The largest number of images in one call.
        threads: CPU cores of each pipeline.
        height, width: The largest height and width of an image in pixels.
    """

    def __init__(
        self, device: torch.device, batch_size: int, threads: int, height: int, width: int
    ) -> None:
        self._device, self._batch_size, self._threads = device, batch_size, threads
        self._options = decoder_options(batch_size, height, width)
        self._own, self._building = local(), Lock()

    def decode(
        self,
        jpegs: _Jpegs,
        heights: _Int32,
        widths: _Int32,
        damaged: list[int],
        stream: Any,
    ) -> Pixels:
        """Decode whole JPEGs.

        Args:
            jpegs: N JPEG streams, uint8 [bytes]. They must exist until the call returns.
            heights: int32 [N], their heights in pixels.
            widths: int32 [N], their widths in pixels.
            damaged: Positions of JPEGs that are not decoded.
            stream: The CUDA stream that reads the pixels. They are freed after the last reference
                to `owner` is gone and the stream has finished the work that was enqueued by then.

        Returns:
            The pixels, with addresses on the device. A damaged or undecodable image has the
            address 0 and 1 x 1 pixels, and `bad` holds its position.
        """
        good = [
            i
            for i, jpeg in enumerate(jpegs)
            if i not in damaged and declares_at_least(jpeg, int(widths[i]), int(heights[i]))
        ]
        addresses, owner = np.zeros(len(jpegs), np.int64), None
        if good:
            try:
                owner = self._run([jpegs[i] for i in good], stream)
            except RuntimeError as error:
                # One undecodable image ends the pipeline. The others are decoded on the device
                # again, so that their pixels do not change.
                del self._own.pipeline
                if not is_of_an_image(error):
                    raise
                found = undecodable([jpegs[i] for i in good], heights[good], widths[good])
                if not found:
                    raise
                good = [i for k, i in enumerate(good) if k not in found]
                owner = self._run([jpegs[i] for i in good], stream) if good else None
        if owner is not None:
            addresses[good] = [owner[k].data_ptr() for k in range(len(good))]
        lost = addresses == 0
        heights, widths = (np.where(lost, np.int32(1), sides) for sides in (heights, widths))
        bad = tuple(np.flatnonzero(lost).tolist())
        return Pixels(addresses, heights, widths, bad=bad, owner=owner)

    def _run(self, jpegs: list[npt.NDArray[np.uint8]], stream: Any) -> Any:
        """Run the pipeline of this thread. Raises RuntimeError if an image cannot be decoded."""
        if not hasattr(self._own, "pipeline"):
            with self._building:
                self._own.pipeline = self._build()
        pipeline = self._own.pipeline
        pipeline.feed_input("jpeg", jpegs)
        pipeline.schedule_run()
        (images,) = pipeline.outputs(stream)
        return images

    def _build(self) -> Any:
        fn, pipeline_def, types = dali()
        gpu = self._device.type == "cuda"

        @pipeline_def(
            batch_size=self._batch_size,
            num_threads=self._threads,
            device_id=(self._device.index or 0) if gpu else None,
            exec_dynamic=True,
            prefetch_queue_depth=1,
        )
        def graph() -> Any:
            return fn.decoders.image(
                fn.external_source(name="jpeg", dtype=types.UINT8, ndim=1, no_copy=True),
                device="mixed" if gpu else "cpu",
                output_type=types.RGB,
                **(self._options if gpu else {}),
            )

        pipeline = graph()
        pipeline.build()
        return survives_fork(pipeline)
