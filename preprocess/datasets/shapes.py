"""Colored shapes on a textured ground: a generated dataset that a small net learns within minutes.

Tests and the demo use it.

In: sizes, numbers and a seed. Out: a SampleSource of JPEG bytes. Image i is always the same. The
shape is the class. The color depends on the class in half of the images only, and some images are
gray, so color alone does not reveal the class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from slipform.preprocess.registry import DatasetSpec

if TYPE_CHECKING:
    from slipform.preprocess.source import Generated, SampleSource

__all__ = ["DATASETS"]

_SHAPES = ("bar", "cross", "disc", "heart", "hexagon", "moon", "ring", "square", "star", "triangle")
_DEFAULT_SHAPES = ("cross", "disc", "ring", "square", "star", "triangle")


def _read(
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
    """The generated dataset. Sizes are in pixels. `square`: width = height."""
    import numpy as np

    from slipform.preprocess.drawing import draw
    from slipform.preprocess.source import Generated, SampleSource

    if min_size > max_size:
        raise click.BadParameter(f"--min-size {min_size} is larger than --max-size {max_size}.")
    names = _DEFAULT_SHAPES if classes == len(_DEFAULT_SHAPES) else _SHAPES[:classes]

    def split(number: int, num_samples: int) -> Generated:
        labels = np.arange(num_samples, dtype=np.int64) % classes

        def make(index: int) -> bytes:
            generator = np.random.default_rng([seed, number, index])
            height = int(generator.integers(min_size, max_size + 1))
            # The shape of the image is that of photographs, not of stripes.
            lowest, highest = max(min_size, height * 2 // 3), min(max_size, height * 3 // 2)
            width = height if square else int(generator.integers(lowest, highest + 1))
            name = names[labels[index]]
            return draw(generator, name, _SHAPES.index(name), height, width)

        return Generated(make, labels, ("train", "val", "test")[number])

    numbers = {"train": num_train, "val": num_val, "test": num_test}
    return SampleSource(
        dataset="shapes",
        classes=names,
        splits={name: split(i, num) for i, (name, num) in enumerate(numbers.items()) if num},
        split_rule="generated apart",
        options={"seed": seed, "min_size": min_size, "max_size": max_size, "square": square},
    )


def _option(
    name: str, default: int, least: int, text: str, most: int | None = None
) -> click.Option:
    return click.Option(
        [name], type=click.IntRange(least, most), default=default, show_default=True, help=text
    )


DATASETS = (
    DatasetSpec(
        name="shapes",
        help="Generated images for a first try.\n\nColored shapes on a textured ground.",
        example="prep shapes --out data/shapes",
        read=_read,
        takes_source=False,
        options=(
            _option("--num-train", 3000, 1, "Images in train."),
            _option("--num-val", 600, 0, "Images in val."),
            _option("--num-test", 600, 0, "Images in test."),
            _option("--classes", len(_DEFAULT_SHAPES), 2, "Number of classes.", len(_SHAPES)),
            _option("--seed", 0, 0, "Seed of the images: another seed, other images."),
            _option("--min-size", 40, 16, "Shortest side, in pixels.", 4096),
            _option("--max-size", 120, 16, "Longest side, in pixels.", 4096),
            click.Option(
                ["--square"],
                is_flag=True,
                help="Square images. With --min-size equal to --max-size all have one size.",
            ),
        ),
    ),
)
