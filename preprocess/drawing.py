"""One colored shape on a textured ground, drawn as a JPEG.

In: a random generator, the shape and its label, the size. Out: JPEG bytes. They are the same on
every processor: only integer drawing and bit-exact resizing are used.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["draw"]

_GRAY_SHARE = 0.05
_SUPERSAMPLING = 4  # shapes are drawn larger by this factor and then reduced, for smooth edges


def draw(generator: np.random.Generator, shape: str, label: int, height: int, width: int) -> bytes:
    """Draw one image.

    Args:
        generator: The source of random numbers.
        shape: Name of the shape: "star".
        label: Label of the shape. It selects the hue of half of the images.
        height: Height in pixels.
        width: Width in pixels.

    Returns:
        The bytes of a JPEG.
    """
    ground = _texture(generator, height, width)
    # The shape takes 0.6 to 0.9 of the shorter side, at any position, turned by up to 20 degrees.
    side = min(height, width)
    radius = side * generator.uniform(0.3, 0.45)
    center = [generator.uniform(radius, length - radius) for length in (width, height)]
    mask = np.zeros((height * _SUPERSAMPLING, width * _SUPERSAMPLING), np.uint8)
    angle = generator.uniform(-20, 20) * np.pi / 180
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    for points, value in _outline(shape):
        placed = np.rint((points @ turn * radius + center) * _SUPERSAMPLING).astype(np.int32)
        cv2.fillPoly(mask, [placed], value)
    mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA)
    mask = mask[..., None].astype(np.int32)
    color = _color(generator, label, ground.mean())
    image = ((ground * (255 - mask) + color * mask) // 255).astype(np.uint8)
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(generator.integers(75, 96))]
    if generator.random() < _GRAY_SHARE:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    ordered = image if image.ndim == 2 else image[..., ::-1].copy()
    return bytes(cv2.imencode(".jpg", ordered, quality)[1])


def _texture(generator: np.random.Generator, height: int, width: int) -> npt.NDArray[np.int32]:
    """The background: soft spots of one hue with fine noise, int32 [H, W, 3], 0..255."""
    low, high = (10, 100) if generator.random() < 0.5 else (155, 245)
    base = generator.integers(low, high, 3)
    spots = np.clip(base + generator.integers(-40, 41, (5, 5, 3)), 0, 255).astype(np.uint8)
    soft = cv2.resize(spots, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)
    return np.clip(soft.astype(np.int32) + generator.integers(-12, 13, (height, width, 1)), 0, 255)


def _color(generator: np.random.Generator, label: int, ground: float) -> npt.NDArray[np.int32]:
    """The RGB color of the shape. Its brightness differs clearly from that of the ground. In half
    of the images its hue is that of the class."""
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
    """The polygons of a shape, to be filled one after the other with 255, or with 0 for a hole.
    They are points float64 [n, 2] in the unit circle."""

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
