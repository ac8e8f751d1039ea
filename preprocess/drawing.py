"""One colored shape on textured ground, drawn as a JPEG.

In: a random generator, the shape and its label, the size. Out: JPEG bytes, the same ones on every
processor: only integer drawing and bit-exact resizing.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

GRAY_SHARE = 0.05
SUPERSAMPLING = 4  # shapes are drawn this much larger and reduced: smooth edges


def draw(generator: np.random.Generator, shape: str, label: int, height: int, width: int) -> bytes:
    """One image as JPEG bytes. Only integer drawing and bit-exact resizing: the same pixels on
    every processor."""
    ground = _texture(generator, height, width)
    # The shape fills 0.6 to 0.9 of the shorter side, anywhere, tilted by up to 20 degrees.
    side = min(height, width)
    radius = side * generator.uniform(0.3, 0.45)
    center = [generator.uniform(radius, length - radius) for length in (width, height)]
    mask = np.zeros((height * SUPERSAMPLING, width * SUPERSAMPLING), np.uint8)
    angle = generator.uniform(-20, 20) * np.pi / 180
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    for points, value in _outline(shape):
        placed = np.rint((points @ turn * radius + center) * SUPERSAMPLING).astype(np.int32)
        cv2.fillPoly(mask, [placed], value)
    mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA)[..., None].astype(
        np.int32
    )
    color = _color(generator, label, ground.mean())
    image = ((ground * (255 - mask) + color * mask) // 255).astype(np.uint8)
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(generator.integers(75, 96))]
    if generator.random() < GRAY_SHARE:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return bytes(
        cv2.imencode(".jpg", image if image.ndim == 2 else image[..., ::-1].copy(), quality)[1]
    )


def _texture(generator: np.random.Generator, height: int, width: int) -> npt.NDArray[np.int32]:
    """Soft blotches of one hue with fine noise over them: int32 [H, W, 3], 0..255."""
    base = (
        generator.integers(10, 100, 3)
        if generator.random() < 0.5
        else generator.integers(155, 245, 3)
    )
    blotches = np.clip(base + generator.integers(-40, 41, (5, 5, 3)), 0, 255).astype(np.uint8)
    soft = cv2.resize(blotches, (width, height), interpolation=cv2.INTER_LINEAR_EXACT).astype(
        np.int32
    )
    return np.clip(soft + generator.integers(-12, 13, (height, width, 1)), 0, 255)


def _color(generator: np.random.Generator, label: int, ground: float) -> npt.NDArray[np.int32]:
    """RGB of the shape, well away from the ground's brightness; in half of the images of the
    class's own hue."""
    hue = generator.integers(0, 180)
    if generator.random() < 0.5:
        hue = (label * 18 + generator.integers(-9, 10)) % 180
    saturation, value = (
        (generator.integers(60, 220), generator.integers(20, 90))
        if ground > 127
        else (generator.integers(60, 130), generator.integers(200, 256))
    )
    hsv = np.array([[[hue, saturation, value]]], np.uint8)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0].astype(np.int32)


def _outline(shape: str) -> list[tuple[npt.NDArray[np.float64], int]]:
    """Polygons to fill one over the other, with 255 or (a hole) 0: float64 [n, 2] points within the
    unit circle."""

    def circle(radius: float = 1.0, corners: int = 48, x: float = 0.0) -> npt.NDArray[np.float64]:
        angles = np.arange(corners) * 2 * np.pi / corners - np.pi / 2
        return radius * np.stack([np.cos(angles), np.sin(angles)], 1) + [x, 0.0]

    a, b = 0.33, 0.95
    t = np.arange(64) * 2 * np.pi / 64
    heart = np.stack(
        [
            np.sin(t) ** 3,
            -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) / 17,
        ],
        1,
    )
    cross = [
        (-a, -b),
        (a, -b),
        (a, -a),
        (b, -a),
        (b, a),
        (a, a),
        (a, b),
        (-a, b),
        (-a, a),
        (-b, a),
        (-b, -a),
        (-a, -a),
    ]
    return {
        "bar": [(np.array([(-1, -0.25), (1, -0.25), (1, 0.25), (-1, 0.25)]), 255)],
        "cross": [(np.array(cross), 255)],
        "disc": [(circle(), 255)],
        "heart": [(heart, 255)],
        "hexagon": [(circle(corners=6), 255)],
        "moon": [(circle(), 255), (circle(0.85, x=0.45), 0)],
        "ring": [(circle(), 255), (circle(0.55), 0)],
        "square": [(np.array([(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)]), 255)],
        "star": [(circle(corners=10) * np.where(np.arange(10) % 2, 0.42, 1.0)[:, None], 255)],
        "triangle": [(circle(corners=3), 255)],
    }[shape]
