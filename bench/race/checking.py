"""Time the check of JPEGs against libjpeg-turbo's reading of the same codes.

In: a dataset folder. Out: processor times of one thread. libjpeg-turbo (in OpenCV) decodes to gray
at 1/8 of the size. It has no faster way to read all codes of a stream: it makes one value of each
block, for the luminance alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2

from slipform.bench.race.race import race
from slipform.bench.result.result import Estimate
from slipform.pipelines.beton import Beton
from slipform.pipelines.decoding.jpeg_scan import is_sound

__all__ = ["compare"]

_IMAGES = 1000
_CODES_ONLY = cv2.IMREAD_REDUCED_GRAYSCALE_8 | cv2.IMREAD_IGNORE_ORIENTATION


def compare(folder: str, rounds: int) -> dict[str, Estimate]:
    """Measure both readers in turns, in this process.

    Args:
        folder: A dataset folder whose train split has JPEGs.
        rounds: Repeats. One more before them is discarded.

    Returns:
        check_seconds, the processor time of the check of an image, and check_ratio: it divided by
        the time of libjpeg-turbo.
    """
    beton = Beton(Path(folder) / "train.beton")
    step = max(1, len(beton) // _IMAGES)
    streams = [beton.bytes_of(i).copy() for i in range(0, len(beton), step)]
    cv2.setNumThreads(1)

    def turn(read: Callable[[], object]) -> dict[str, float]:
        began = time.thread_time()
        read()
        return {"check_seconds": (time.thread_time() - began) / len(streams)}

    readers = {
        "check": partial(turn, lambda: [is_sound(stream) for stream in streams]),
        "libjpeg": partial(turn, lambda: [cv2.imdecode(one, _CODES_ONLY) for one in streams]),
    }
    found = race(readers, rounds, warmup_rounds=1)
    check_ratio = found.ratio("check", "libjpeg", "check_seconds")
    return found.estimates("check") | {"check_ratio": check_ratio}
