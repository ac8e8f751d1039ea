"""The pixels of blocks and rows, compared with the formulas in numpy."""

from __future__ import annotations

import numpy as np
import pytest

from slipform.pipelines.decoding.jpeg_pixels import _AVERAGES, finish_block, to_rgb
from slipform.pipelines.kernel import kernel
from tests.pipelines.rendering.guarded import Guarded


def _colors(planes: np.ndarray, components: int) -> np.ndarray:
    """JFIF's conversion, in float32, and rounding."""
    light = planes[0] + np.float32(128.5)
    b, r = planes[1], planes[2]
    if components == 1:
        rgb = [light] * 3
    else:
        green = light - np.float32(0.344136) * b - np.float32(0.714136) * r
        rgb = [light + np.float32(1.402) * r, green, light + np.float32(1.772) * b]
    return np.stack(rgb, 2).clip(0, 255.5).astype(np.uint8)


@pytest.mark.parametrize("components", [1, 3])
@pytest.mark.parametrize("width", [1, 7, 8, 9, 16, 23, 40])
def test_colors(width: int, components: int) -> None:
    """Eight pixels at a time, and the rest one by one. No byte beyond the pixels is written."""
    rng = np.random.default_rng(width)
    planes = rng.normal(0, 90, (3, 4, width + 8)).astype(np.float32)
    planes[0, :2, 0] = -2000, 2000  # beyond what a level can be
    pixels = Guarded(3 * width * 3, np.uint8, at_end=True).array.reshape(3, width, 3)
    to_rgb(planes, components, pixels)
    want = _colors(planes[:, :3, :width], components)
    assert {0, 255} <= set(want.ravel().tolist())
    np.testing.assert_array_equal(pixels, want)


@kernel
def _finish(block, outputs, planes, position, stride):  # type: ignore[no-untyped-def]
    finish_block(block, outputs, planes, position, stride)


@pytest.mark.parametrize("outputs", [0, 1, 2, 3])
def test_the_sums_over_vertical_frequencies(outputs: int) -> None:
    """Rows of frequencies that are not used have no effect, whatever they hold."""
    rng = np.random.default_rng(outputs)
    block = rng.normal(0, 100, 64).astype(np.float32)
    num, stride = 1 << outputs, 24
    planes = np.full(12 * stride, 7, np.float32)
    _finish(block, outputs, planes, 3 * stride + 5, stride)
    shares = _AVERAGES.reshape(4, 8, 8)[outputs].astype(np.float64)
    want = np.full((12, stride), 7.0)
    want[3 : 3 + num, 5:13] = (shares[:num, :num].T @ block.reshape(8, 8)[:num]).astype(np.float32)
    np.testing.assert_allclose(planes.reshape(12, stride), want, rtol=0, atol=1e-3)
