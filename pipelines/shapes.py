"""The sizes of the stored images: `Shapes` looks them up for the samples of a batch.

In: heights and widths of all images. Out: those of some of them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["Shapes"]

_Int32 = npt.NDArray[np.int32]


class Shapes:
    """Heights and widths of stored images.

    Args:
        heights, widths: int32 [N], in pixels.
    """

    def __init__(self, heights: _Int32, widths: _Int32) -> None:
        self._heights, self._widths = heights, widths
        equal = len(heights) > 0 and all((one == one[0]).all() for one in (heights, widths))
        # The size of all images, if they have one size.
        self._common = (int(heights[0]), int(widths[0])) if equal else None

    def of(self, indices: npt.NDArray[np.int64]) -> tuple[_Int32, _Int32]:
        """The sizes of the images of samples.

        Args:
            indices: int64 [n], the samples.

        Returns:
            (heights, widths), int32 [n] each, in memory of their own.
        """
        if self._common is None:
            return self._heights[indices], self._widths[indices]
        # Rendering has filled the caches: to look up 2,000 values would take about 25 us.
        height, width = self._common
        return np.full(len(indices), height, np.int32), np.full(len(indices), width, np.int32)
