"""The affine kernel against the warp kernel, in guarded memory, also for maps that no policy draws
often: steps of many pixels, and steps that are nearly 0."""

from __future__ import annotations

import numpy as np
import pytest

from slipform.pipelines.rendering.affine import affine, frame_for
from slipform.pipelines.rendering.reduce import reduce
from slipform.pipelines.rendering.spans import find_spans
from slipform.pipelines.rendering.taps import ZERO
from slipform.pipelines.rendering.warp import warp
from slipform.pipelines.stores import FLOAT32
from tests.pipelines import folders
from tests.pipelines.rendering.guarded import Guarded

SIZE = 33
PLAIN = np.eye(3, 4, dtype=np.float32)
# Shear by 0.3 ten times, alternating: the strongest map of a policy.
SHEARS = np.linalg.matrix_power(np.array([[1.09, 0.3, 0], [0.3, 1, 0], [0, 0, 1]]), 5)


def _map(xx: float, xy: float, x: float, yx: float, yy: float, y: float) -> np.ndarray:
    return np.array([[xx, xy, x], [yx, yy, y], [0, 0, 1]])


MAPS = {
    "sheared ten times": SHEARS,
    "sheared ten times, from the end": _map(-1, 0, SIZE, 0, -1, SIZE) @ SHEARS,
    "sheared back": np.linalg.inv(SHEARS),
    "seven rows a pixel": _map(0.5, 0.1, 3, 7.0, 0.5, -40),
    "seven rows a pixel, upward": _map(0.5, 0.1, 3, -7.0, 0.5, 190),
    "nearly no step, above": _map(1, 0, 0, 1e-25, 1, -70),
    "nearly no step, below": _map(1, 0, 0, -1e-25, 1, 70),
    "nearly no step, left": _map(1e-25, 1, -70, 1, 0, 0),
    "nearly no step, inside": _map(1, 0, 0, 1e-25, 1, 3),
    "turned": _map(0.8, -0.6, 9, 0.6, 0.8, -4),
}


def _affine(
    image: np.ndarray, matrix: np.ndarray, clip: np.ndarray, scratch: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    height, width = image.shape[:2]
    out = np.full(SIZE * SIZE * 3, np.nan, np.float32)
    box = (int(clip[3] - clip[1]), int(clip[2] - clip[0]))
    flat = image.reshape(height, width * 3)
    frame = frame_for(matrix, clip, *box)
    used = reduce(flat, clip, *box, False, frame, scratch)
    nothing = np.empty(0, np.uint16)
    affine(used, frame, matrix, clip, *box, PLAIN, SIZE, FLOAT32, out, nothing, 0)
    return out.reshape(SIZE, SIZE, 3), used


@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("case", MAPS)
def test_the_same_as_warp_within_its_memory(case: str, at_end: bool) -> None:
    matrix = MAPS[case].astype(np.float32)
    image = folders.noise(35, 31, 1)
    clip = np.array([2, 1, 30, 34], np.int32)
    matrix[:2, 2] += matrix[2, 2] * clip[:2]
    _, used = _affine(image, matrix, clip, np.empty(0, np.float32))
    guarded = Guarded(len(used), np.float32, at_end)
    guarded.array[:] = np.nan
    found, same = _affine(image, matrix, clip, guarded.array)
    assert same is guarded.array or same.ctypes.data == guarded.array.ctypes.data
    want = np.empty(SIZE * SIZE * 3, np.float32)
    warp(
        image.reshape(35, 93), matrix, clip, (33, 28), ZERO, False, PLAIN, SIZE, FLOAT32, want,
        np.empty(0, np.uint16), 0,
    )  # fmt: skip
    np.testing.assert_allclose(found, want.reshape(SIZE, SIZE, 3), atol=0.02)


@pytest.mark.parametrize("case", MAPS)
def test_spans_are_the_centers_inside_the_image(case: str) -> None:
    matrix, clip = MAPS[case].astype(np.float32), np.array([2, 1, 30, 34], np.int32)
    spans = np.empty((SIZE, 2), np.int64)
    find_spans(matrix, clip, SIZE, spans)
    at = np.arange(SIZE) + 0.5
    x, y = (m[0] * at[None] + m[1] * at[:, None] + m[2] for m in matrix[:2].astype(np.float64))
    inside = (x >= 2) & (x < 30) & (y >= 1) & (y < 34)
    for j in range(SIZE):
        columns = np.flatnonzero(inside[j])
        begin, end = spans[j] // 3 - j * SIZE
        assert 0 <= begin <= end <= SIZE
        assert end - begin == len(columns), j
        assert not len(columns) or begin == columns[0], j
