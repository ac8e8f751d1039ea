"""The size that a JPEG stream says it has, read before a decoder sees it; numba, a microsecond an
image.

In: a stream. Out: height and width, or that it is none. DALI's decoder (2.4, nvImageCodec 0.9) does
not only fail on a stream without a whole header, or on a region beyond the image: in a batch with
others it may end the process (a segmentation fault in 1 of 40 batches of 64). A stream that is
damaged behind its header gives an ordinary error.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from slipform.pipelines.kernel import kernel


@kernel
def header_size(data):  # type: ignore[no-untyped-def]
    """(height, width) of a JPEG stream, uint8 [bytes]; (0, 0) where its markers do not lead to a
    frame and then to a scan."""
    height, width = 0, 0
    if len(data) < 4 or data[0] != 0xFF or data[1] != 0xD8:
        return 0, 0
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return 0, 0
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker == 0xDA:
            return height, width
        length = int(data[at + 2]) * 256 + int(data[at + 3])
        if length < 2 or marker == 0xD9:
            return 0, 0
        if (
            0xC0 <= marker <= 0xCF
            and marker != 0xC4
            and marker != 0xC8
            and marker != 0xCC
            and at + 9 <= len(data)
        ):
            height, width = (
                int(data[at + 5]) * 256 + int(data[at + 6]),
                int(data[at + 7]) * 256 + int(data[at + 8]),
            )
        at += 2 + length
    return 0, 0


@kernel
def declare_at_least(data, offsets, sizes, widths, heights):  # type: ignore[no-untyped-def]
    """Of JPEG streams data[offset : offset + size]: bool [N], whether each one's image is at least
    width x height."""
    declared = np.empty(len(offsets), np.bool_)
    for i in range(len(offsets)):
        height, width = header_size(data[offsets[i] : offsets[i] + sizes[i]])
        declared[i] = height >= heights[i] and width >= widths[i]
    return declared


def declares_at_least(jpeg: npt.NDArray[np.uint8], width: int, height: int) -> bool:
    """True where the stream's image is at least width x height."""
    found = header_size(jpeg)
    return bool(found[0] >= height and found[1] >= width)
