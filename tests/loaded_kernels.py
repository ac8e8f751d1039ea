"""Loads the compiled kernels that draw and render on CPU cores.

In: nothing. Out: the kernels in this process. A process that forks imports this module before:
otherwise each child would read the kernels from the cache, which takes seconds of processor time.
It makes no loader and no thread.
"""

from __future__ import annotations

import numpy as np

from slipform.pipelines.decoding.pixels import Pixels
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.plan import draw
from slipform.pipelines.plan.policy import Policy
from slipform.pipelines.rendering.prepare import prepared
from slipform.pipelines.stores import FLOAT32

_SIDE = 8


def _load(spec: Augmentation) -> None:
    """Render one black image."""
    image, sides = np.zeros((_SIDE, _SIDE, 3), np.uint8), np.array([_SIDE], np.int32)
    plan = draw(spec.resolved([], []), np.arange(1), sides, sides, 0, 0)
    pixels = Pixels(np.array([image.ctypes.data]), sides, sides, owner=[image])
    kernel, arguments = prepared(plan, pixels, _SIDE, FLOAT32)
    kernel(*arguments, np.empty(image.size, np.float32), np.empty(0, np.uint16), 0, 1)


_load(Augmentation(image_size=_SIDE, normalize="half"))
_load(Augmentation(image_size=_SIDE, normalize="half", policy=Policy("rand_augment")))
