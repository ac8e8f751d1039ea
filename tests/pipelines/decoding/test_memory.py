"""The memory of one decoding thread for a photo of 50 megapixels."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

_HEIGHT, _WIDTH = 5776, 8664
_MIB = 1 << 20
# In a process of its own, after a smaller photo, for which kernels may be compiled: by how many
# bytes the peak of its memory grows.
_PROGRAM = """
import sys
import numpy as np
from slipform.pipelines.decoding.decoder import Decoder
from slipform.pipelines.machine import peak_resident_bytes

small, large = (np.fromfile(path, np.uint8) for path in sys.argv[1:3])
scale, *box = map(int, sys.argv[3:])
scales, decoder = np.array([scale], np.int32), Decoder()
for part in ([0, 0, 1083, 722], [64, 64, 560, 560]):
    decoder.decode([small], np.array([part], np.int32), scales)
before = peak_resident_bytes()
found = decoder.decode([large], np.array([box], np.int32), scales)
print(peak_resident_bytes() - before, found.heights[0], found.widths[0], len(found.bad))
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The paths of a small photo and of one of 50 megapixels."""
    noise = np.random.default_rng(0).integers(0, 256, (722, 1083, 3), np.uint8)
    paths = [tmp_path_factory.mktemp("photos") / name for name in ("small.jpg", "large.jpg")]
    for path, sides in zip(paths, ((1083, 722), (_WIDTH, _HEIGHT)), strict=True):
        Image.fromarray(noise).resize(sides).save(path, quality=85)
    return list(map(str, paths))


@pytest.mark.parametrize(
    ("scale", "box"),
    [(8, (0, 0, _WIDTH, _HEIGHT)), (4, (0, 0, _WIDTH, _HEIGHT)), (1, (900, 800, 2900, 2800))],
    ids=["eighth", "quarter", "crop"],
)
def test_a_thread_needs_little_more_than_the_pixels_that_it_returns(
    photos: list[str], scale: int, box: tuple[int, ...]
) -> None:
    """The whole photo would take 143 MiB."""
    command = [sys.executable, "-c", _PROGRAM, *photos, str(scale), *map(str, box)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    grown, height, width, num_bad = map(int, done.stdout.split())
    assert num_bad == 0
    assert (height, width) == (-(-(box[3] - box[1]) // scale), -(-(box[2] - box[0]) // scale))
    assert grown < 3 * height * width + 24 * _MIB
