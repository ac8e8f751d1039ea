"""The Gaussian blur of one picture, on CPU cores. Compiled by numba.

In: a picture of float32 values, a deviation. Out: the blurred picture. The filter is
separable: rows are added along y, and each sum along x. At the edges the picture is mirrored about
the center of its outermost pixels, as torchvision's gaussian_blur does.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from slipform.pipelines.kernel import kernel
from slipform.pipelines.plan.plan import Plan

__all__ = ["blur", "blurred"]

_NO_SIGMAS = np.zeros(0, np.float32)


def blurred(plan: Plan) -> tuple[npt.NDArray[np.float32], int]:
    """The blur of a Plan in the form of the kernels.

    Args:
        plan: The Plan of N samples.

    Returns:
        float32 [N] deviations, or [0] if nothing is blurred; the radius of the filter in pixels.
    """
    return (_NO_SIGMAS if plan.blur is None else plan.blur), plan.blur_size // 2


@kernel(fastmath={"contract", "nsz"})
def blur(picture, out, size, sigma, radius):
    """Blur a picture.

    Args:
        picture: float32 [size * size * 3].
        out: Output of the same form.
        size: Side of the picture in pixels, more than `radius`.
        sigma: The deviation in pixels.
        radius: Pixels of the filter on each side of its center.
    """
    line, margin = 3 * size, 3 * radius
    weights = _weights(sigma, radius)
    columns = np.empty(line + 2 * margin, np.float32)  # the sum of rows
    middle = columns[margin : margin + line]
    for j in range(size):
        _weighted(picture[j * line : (j + 1) * line], weights[0], middle)
        for k in range(1, radius + 1):
            above, below = line * _mirrored(j - k, size), line * _mirrored(j + k, size)
            _add_both(
                picture[above : above + line], picture[below : below + line], weights[k], middle
            )
        for i in range(radius):
            for c in range(3):
                columns[3 * i + c] = columns[margin + 3 * (radius - i) + c]
                columns[margin + line + 3 * i + c] = columns[margin + line - 3 * (i + 2) + c]
        row = out[j * line : (j + 1) * line]
        _weighted(middle, weights[0], row)
        for k in range(1, radius + 1):
            left, right = columns[margin - 3 * k :], columns[margin + 3 * k :]
            _add_both(left[:line], right[:line], weights[k], row)


@kernel
def _weights(sigma, radius):
    """The weights of the center and of the pixels at 1, 2, ... `radius` from it, float32."""
    weights, total = np.empty(radius + 1, np.float64), 0.0
    for k in range(radius + 1):
        weights[k] = np.exp(-0.5 * (k / sigma) ** 2)
        total += weights[k] if k == 0 else 2 * weights[k]
    return (weights / total).astype(np.float32)


@kernel
def _mirrored(position, length):
    if position < 0:
        return -position
    return position if position < length else 2 * (length - 1) - position


@kernel
def _weighted(values, weight, out):
    for i in range(len(out)):
        out[i] = values[i] * weight


@kernel(fastmath={"contract", "nsz"})
def _add_both(one, other, weight, out):
    for i in range(len(out)):
        out[i] += (one[i] + other[i]) * weight
