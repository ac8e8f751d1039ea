"""Time the decoders of JPEGs on one thread each, in turns in this process.

In: a dataset folder. Out: for each decoder the processor time for an image, as RGB in memory. A
pipeline of DALI has threads of its own, so the time is that of the process.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from slipform.bench.race.race import race
from slipform.bench.result.result import Estimate
from slipform.pipelines.beton import Beton
from slipform.pipelines.decoding.dali import dali
from slipform.pipelines.decoding.decoder import MOST_AT_ONCE, Decoder

__all__ = ["OURS", "batch", "compare", "decoders"]

OURS = "slipform (nvImageCodec)"
_IMAGES = 16 * MOST_AT_ONCE

_Streams = list[npt.NDArray[np.uint8]]
_Sizes = npt.NDArray[np.int32]  # [N, 2], widths and heights in pixels
_Decode = Callable[[_Streams, _Sizes], list[Any]]  # to arrays [H, W, 3] or tensors [3, H, W]


def decoders() -> dict[str, _Decode]:
    """The decoders that are installed, by name. Each makes arrays or tensors of a batch."""
    found = {OURS: _ours(), "DALI pipeline": _dali(), "OpenCV": _opencv, "Pillow": _pillow}
    try:
        from torchcodec.decoders import decode_jpeg
    except (ImportError, RuntimeError, OSError):  # FFmpeg may be missing
        return found
    import torch

    found["torchcodec"] = lambda streams, sizes: [
        decode_jpeg(torch.from_numpy(one), mode="RGB") for one in streams
    ]
    return found


def _ours() -> _Decode:
    decoder = Decoder()

    def decode(streams: _Streams, sizes: _Sizes) -> list[Any]:
        pixels = decoder.decode(streams, np.concatenate([np.zeros_like(sizes), sizes], axis=1))
        images: list[Any] = pixels.owner
        return images

    return decode


def _dali() -> _Decode:
    fn, pipeline_def, types = dali()

    @pipeline_def(batch_size=MOST_AT_ONCE, num_threads=1, device_id=None, prefetch_queue_depth=1)
    def graph() -> Any:
        streams = fn.external_source(name="jpegs", dtype=types.UINT8, ndim=1)
        return fn.decoders.image(streams, device="cpu", output_type=types.RGB)

    pipeline = graph()
    pipeline.build()

    def decode(streams: _Streams, sizes: _Sizes) -> list[Any]:
        (images,) = pipeline.run(jpegs=streams)
        return [np.asarray(images.at(i)) for i in range(len(images))]

    return decode


def _opencv(streams: _Streams, sizes: _Sizes) -> list[Any]:
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    return [cv2.imdecode(stream, flags) for stream in streams]


def _pillow(streams: _Streams, sizes: _Sizes) -> list[Any]:
    from PIL import Image

    files = (io.BytesIO(stream.tobytes()) for stream in streams)
    return [np.asarray(Image.open(file).convert("RGB")) for file in files]


def batch(beton: Beton, at: npt.NDArray[np.int64]) -> tuple[_Streams, _Sizes]:
    """The streams and the sizes of some samples.

    Args:
        beton: The stored images.
        at: int64 [N], the samples.
    """
    sizes = np.stack([beton.widths[at], beton.heights[at]], axis=1)
    return [beton.bytes_of(int(i)).copy() for i in at], sizes


def compare(folder: str, rounds: int) -> dict[str, dict[str, Estimate]]:
    """Measure all decoders in turns.

    Args:
        folder: A dataset folder whose train split has JPEGs.
        rounds: Repeats. One more before them is discarded.

    Returns:
        Decoder -> decode_seconds, the processor time for an image, and decode_ratio: that of ours
        divided by it.
    """
    beton = Beton(Path(folder) / "train.beton")
    step = max(1, len(beton) // _IMAGES)
    chosen = np.arange(0, len(beton), step)[:_IMAGES]
    batches = [
        batch(beton, at) for at in np.split(chosen, range(MOST_AT_ONCE, len(chosen), MOST_AT_ONCE))
    ]
    cv2.setNumThreads(1)

    def turn(decode: _Decode) -> dict[str, float]:
        began = time.process_time()
        for streams, sizes in batches:
            decode(streams, sizes)
        return {"decode_seconds": (time.process_time() - began) / len(chosen)}

    turns = {name: partial(turn, decode) for name, decode in decoders().items()}
    found = race(turns, rounds, warmup_rounds=1)
    return {
        name: found.estimates(name) | {"decode_ratio": found.ratio(OURS, name, "decode_seconds")}
        for name in turns
    }
