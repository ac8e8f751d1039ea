"""The semantics of the Plan in plain float64 loops, as a reference for the executors.

In: one stored image and the numbers of one sample. Out: float64 [S, S, 3]. It follows the
description in pipelines/plan/plan.py, not the kernels: filter weights are dense matrices, borders
come from counting output pixels, derivatives from differences.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def triangle(
    start: float, step: float, count: int, low: int, high: int, border: str
) -> tuple[np.ndarray, np.ndarray]:
    """float64 [count, high]: the weights of the stored pixels for each output pixel. bool [count]:
    whether its center is inside."""
    ends = sorted(((low - start) / step, (high - start) / step))
    grid = np.arange(
        int(ends[0]) - 2, int(ends[1]) + 3
    )  # output pixels continued over the whole image
    centers = start + (grid + 0.5) * step
    inside_grid = grid[(centers >= low) & (centers < high)]
    pixels, weights, inside = np.arange(high) + 0.5, np.zeros((count, high)), np.zeros(count, bool)
    for i in range(count):
        inside[i] = low <= start + (i + 0.5) * step < high
        if not inside[i] and (border == "zero" or not len(inside_grid)):
            continue
        first, last = (inside_grid[0], inside_grid[-1]) if len(inside_grid) else (i, i)
        k = i
        while not first <= k <= last:
            mirrored = 2 * first - k if k < first else 2 * last - k
            k = mirrored if border == "reflect" and first < last else min(max(k, first), last)
        row = np.maximum(
            0.0, 1.0 - np.abs(pixels - (start + (k + 0.5) * step)) / max(1.0, abs(step))
        )
        row[:low] = 0
        weights[i] = row / row.sum()
    return weights, inside


def resample(
    image: np.ndarray, geometry: np.ndarray, clip: Any, size: int, border: str
) -> np.ndarray:
    """An axis-aligned sample: float64 [size, size, 3] in 0..255. The border is black."""
    g = np.asarray(geometry, np.float64)
    x0, y0, x1, y1 = (int(v) for v in clip)
    across, _ = triangle(g[0, 2], g[0, 0], size, x0, x1, border)
    down, _ = triangle(g[1, 2], g[1, 1], size, y0, y1, border)
    return np.einsum(
        "yh,xw,hwc->yxc", down, across, image[:y1, :x1].astype(np.float64), optimize=True
    )


def _project(g: np.ndarray, x: float, y: float) -> np.ndarray:
    point = g @ (x, y, 1.0)
    return point[:2] / point[2]


def reduced_shape(geometry: np.ndarray, size: int, height: int, width: int) -> tuple[float, float]:
    """(height, width) of the reduced image before warping, not rounded."""
    g, c, e = np.asarray(geometry, np.float64), size / 2, 1e-4 * size
    along_x = (_project(g, c + e, c) - _project(g, c - e, c)) / (2 * e)
    along_y = (_project(g, c, c + e) - _project(g, c, c - e)) / (2 * e)
    scale_x, scale_y = np.hypot(along_x[0], along_y[0]), np.hypot(along_x[1], along_y[1])
    return height / max(1.0, scale_y), width / max(1.0, scale_x)


def _stored(i: int, length: int, border: str) -> int | None:
    """The pixel that is used for position i of an axis. None: black."""
    if 0 <= i < length:
        return i
    if border == "zero":
        return None
    if border == "edge" or length == 1:
        return min(max(i, 0), length - 1)
    while not 0 <= i < length:
        i = -i if i < 0 else 2 * (length - 1) - i
    return i


def _to_clip(image: np.ndarray, clip: Any, x: float, y: float) -> float:
    """The distance of a stored point from the sides of `clip`, negative outside. Sides at the edge
    of the image do not count."""
    height, width = image.shape[:2]
    x0, y0, x1, y1 = (int(v) for v in clip)
    sides = ((x0 > 0, x - x0), (y0 > 0, y - y0), (x1 < width, x1 - x), (y1 < height, y1 - y))
    return min((far for counts, far in sides if counts), default=np.inf)


def warp(
    image: np.ndarray, geometry: np.ndarray, clip: Any, size: int, border: str
) -> tuple[np.ndarray, np.ndarray]:
    """A warped sample: float64 [size, size, 3]. bool [size, size]: whether the point is in front of
    the camera, not far outside and not on a side of `clip`."""
    stored = np.asarray(geometry, np.float64)
    g = np.asarray(geometry, np.float64)
    height, width = image.shape[:2]
    small_h, small_w = (max(1, round(v)) for v in reduced_shape(g, size, height, width))
    identity = np.array([[width / small_w, 0, 0], [0, height / small_h, 0], [0, 0, 1]])
    across, _ = triangle(0.0, identity[0, 0], small_w, 0, width, "zero")
    down, _ = triangle(0.0, identity[1, 1], small_h, 0, height, "zero")
    small = np.einsum("yh,xw,hwc->yxc", down, across, image.astype(np.float64), optimize=True)
    g = np.linalg.inv(identity) @ g
    out, known = np.zeros((size, size, 3)), np.ones((size, size), bool)
    for j in range(size):
        for i in range(size):
            px, py, depth = g @ (i + 0.5, j + 0.5, 1.0)
            known[j, i] = depth > 1e-3
            if not known[j, i]:
                continue
            inside = _to_clip(image, clip, *_project(stored, i + 0.5, j + 0.5))
            known[j, i] = abs(inside) > 1e-3
            if inside < 0:
                continue
            x, y = px / depth - 0.5, py / depth - 0.5
            if border != "zero" and not (
                -3 * small_w < x < 4 * small_w and -3 * small_h < y < 4 * small_h
            ):
                known[j, i] = False
                continue
            left, top = int(np.floor(x)), int(np.floor(y))
            for dy, wy in ((0, 1 - (y - top)), (1, y - top)):
                for dx, wx in ((0, 1 - (x - left)), (1, x - left)):
                    row, column = (
                        _stored(top + dy, small_h, border),
                        _stored(left + dx, small_w, border),
                    )
                    if row is not None and column is not None:
                        out[j, i] += wy * wx * small[row, column]
    return out, known


def picture(image: np.ndarray, plan: Any, i: int) -> tuple[np.ndarray, np.ndarray]:
    """Sample i of a Plan: float64 [S, S, 3], normalized. bool [S, S]: the pixels that the semantics
    define."""
    known = np.ones((plan.image_size, plan.image_size), bool)
    if plan.axis_aligned:
        pixels = resample(image, plan.geometry[i], plan.clip[i], plan.image_size, plan.border)
    else:
        pixels, known = warp(image, plan.geometry[i], plan.clip[i], plan.image_size, plan.border)
    color = plan.color[i].astype(np.float64)
    out = pixels @ color[:, :3].T + color[:, 3]
    if plan.erase is not None:
        x0, y0, x1, y1 = plan.erase[i]
        out[y0:y1, x0:x1] = 0
    return out, known
