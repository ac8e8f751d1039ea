"""Sizes of stored images, looked up for samples."""

from pathlib import Path

import numpy as np
import pytest

from slipform.pipelines.beton import Beton
from slipform.pipelines.shapes import Shapes
from tests.pipelines.folders import noise, write_beton


@pytest.mark.parametrize("equal", [True, False])
def test_sizes_are_those_of_the_samples(equal: bool) -> None:
    heights, widths = np.full(9, 5, np.int32), np.full(9, 7, np.int32)
    if not equal:
        widths[8] = 8  # the last one only
    at = np.array([8, 0, 8, 3])
    found = Shapes(heights, widths).of(at)
    for one, stored in zip(found, (heights, widths), strict=True):
        assert one.dtype == np.int32
        np.testing.assert_array_equal(one, stored[at])
        one[:] = 0
    assert heights.min() == 5
    assert widths.min() == 7


def test_the_shapes_of_a_subset_are_its_own(tmp_path: Path) -> None:
    sides = [(9, 7), (9, 7), (5, 6)]
    path = tmp_path / "train.beton"
    write_beton(path, [noise(*side, seed) for seed, side in enumerate(sides)], [0] * 3, sides)
    beton = Beton(path)
    for chosen in ([0, 1], [2], [2, 0]):
        own = beton.subset(np.array(chosen))
        heights, widths = own.shapes.of(np.arange(len(chosen)))
        assert list(zip(heights, widths, strict=True)) == [sides[k] for k in chosen]


def test_no_samples() -> None:
    nothing = np.zeros(0, np.int32)
    for one in Shapes(nothing, nothing).of(np.zeros(0, np.int64)):
        assert len(one) == 0
