"""Colored shapes on textured ground: a generated dataset that a small net learns within minutes;
tests and the demo use it.

In: sizes, numbers and a seed. Out: a SampleSource of JPEG bytes, image i always the same one. The
shape is the class; the color only hints at it in half of the images, and some images are gray, so
color alone does not give the class away.
"""

from __future__ import annotations

import click
import numpy as np
import numpy.typing as npt

from slipform.preprocess.registry import Dataset
from slipform.preprocess.source import Generated, SampleSource

CLASSES = ("bar", "cross", "disc", "heart", "hexagon", "moon", "ring", "square", "star", "triangle")
DEFAULT_CLASSES = ("cross", "disc", "ring", "square", "star", "triangle")
GRAY_SHARE = 0.05
SUPERSAMPLING = 4  # shapes are drawn this much larger and reduced: smooth edges


def read(
    source: None = None,
    *,
    num_train: int,
    num_val: int,
    num_test: int,
    classes: int,
    seed: int,
    min_size: int,
    max_size: int,
    square: bool,
) -> SampleSource:
    """The generated dataset. Sizes in pixels; `square` gives width = height."""
    if min_size > max_size:
        raise click.BadParameter(f"--min-size {min_size} is larger than --max-size {max_size}.")
    names = DEFAULT_CLASSES if classes == len(DEFAULT_CLASSES) else CLASSES[:classes]

    def split(number: int, num_samples: int) -> Generated:
        labels = np.arange(num_samples, dtype=np.int64) % classes

        def make(index: int) -> bytes:
            generator = np.random.default_rng([seed, number, index])
            height = int(generator.integers(min_size, max_size + 1))
            lowest, highest = (
                max(min_size, height * 2 // 3),
                min(max_size, height * 3 // 2),
            )  # as photographs are, no stripes
            width = height if square else int(generator.integers(lowest, highest + 1))
            return draw(generator, names[labels[index]], height, width)

        return Generated(make, labels, ("train", "val", "test")[number])

    numbers = {"train": num_train, "val": num_val, "test": num_test}
    return SampleSource(
        dataset="shapes",
        classes=names,
        splits={name: split(i, num) for i, (name, num) in enumerate(numbers.items()) if num},
        split_rule="generated apart",
        options={"seed": seed, "min_size": min_size, "max_size": max_size, "square": square},
    )


def draw(generator: np.random.Generator, shape: str, height: int, width: int) -> bytes:
    """One image as JPEG bytes. Only integer drawing and bit-exact resizing: the same pixels on
    every processor."""
    import cv2

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
    color = _color(generator, CLASSES.index(shape), ground.mean())
    image = ((ground * (255 - mask) + color * mask) // 255).astype(np.uint8)
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(generator.integers(75, 96))]
    if generator.random() < GRAY_SHARE:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return bytes(
        cv2.imencode(".jpg", image if image.ndim == 2 else image[..., ::-1].copy(), quality)[1]
    )


def _texture(generator: np.random.Generator, height: int, width: int) -> npt.NDArray[np.int32]:
    """Soft blotches of one hue with fine noise over them: int32 [H, W, 3], 0..255."""
    import cv2

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
    import cv2

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


def _option(
    name: str, default: int, least: int, text: str, most: int | None = None
) -> click.Option:
    return click.Option(
        [name], type=click.IntRange(least, most), default=default, show_default=True, help=text
    )


DATASETS = (
    Dataset(
        name="shapes",
        help="Colored shapes on textured ground, generated: for trying things out.",
        example="prep shapes --out data/shapes",
        read=read,
        takes_source=False,
        options=(
            _option("--num-train", 3000, 1, "Images in train."),
            _option("--num-val", 600, 0, "Images in val."),
            _option("--num-test", 600, 0, "Images in test."),
            _option("--classes", len(DEFAULT_CLASSES), 2, "Number of classes.", len(CLASSES)),
            _option("--seed", 0, 0, "Another seed, other images."),
            _option("--min-size", 40, 16, "Shortest side, in pixels.", 4096),
            _option("--max-size", 120, 16, "Longest side, in pixels.", 4096),
            click.Option(
                ["--square"],
                is_flag=True,
                help="Square images: with --min-size equal to --max-size all of one size.",
            ),
        ),
    ),
)
