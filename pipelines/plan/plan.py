"""The numbers of one batch: `draw` turns an Augmentation into a `Plan`.

In: a spec, sample indices, the sizes of the stored images, seed and epoch. Out: a Plan. This is the
description of what all executors do with it:

Coordinates are continuous. Pixel i covers [i, i + 1), and its center is i + 0.5. `geometry` maps an
output point (x, y, 1) to a point of the stored image, after division by the third component.

Axis-aligned samples (a box, perhaps mirrored): the center of each output pixel is mapped. The
stored pixels around it are averaged with a triangle filter. Its half-width on each axis is
max(1, scale), where scale is the number of stored pixels per output pixel. It is thus bilinear on
an axis that is enlarged, and antialiased on one that is reduced, as in Pillow and torchvision
(antialias=True). With interpolation = "bicubic" the filter is cubic, of twice the width, and values
are cut off to 0..255.
Pixels outside `clip` do not count: the weights of those inside are normalized. If the center is
outside `clip`, `border` applies. "zero" gives black. "edge" repeats the outermost output pixel.
"reflect" mirrors output pixels about the center of the outermost one.

All other samples (rotation, perspective, affine): if the map reduces, the image is first resized
as above, by the scale of the map along each axis at the center of the output. Then the center of
each output pixel is sampled bilinearly, with `border` outside the image. A center outside `clip` is
black if that side of `clip` is inside the image.

Then `color` maps (R, G, B, 1), with R, G, B in 0..255, to normalized RGB. `erase` boxes are filled
with 0, which is the mean color, or with normal numbers (`erase_mode`).

Samples with `chains` (a policy, such as RandAugment): the image is what is inside `clip`, and black
outside. Each chain has a geometry of its own, and is rendered as an axis-aligned sample if that is
a box. Otherwise the image is reduced by the scale of the sample's geometry without the chain, and
then sampled as above. If the chain has operations on pixels, or there are several chains, the
picture is rounded to whole levels 0..255, and the operations are applied one after another, each
one as torchvision does on uint8. The weighted sum of the pictures goes to `color`.

`blur`: before `color`, the output pixels are averaged with a Gaussian of that deviation, of
`blur_size` pixels along each side, as torchvision's gaussian_blur does on float32.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from slipform.pipelines.plan import kernels
from slipform.pipelines.plan.augmentation import Augmentation, Border, EraseMode
from slipform.pipelines.plan.chains import Chains, draw_chains
from slipform.pipelines.plan.erasing import draw_keys
from slipform.pipelines.plan.own_plan import with_own
from slipform.pipelines.plan.sigmas import draw_sigmas

__all__ = ["Plan", "draw", "numbers_of"]

_Float32 = npt.NDArray[np.float32]
_Int32 = npt.NDArray[np.int32]
_Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Plan:
    """The augmentation of one batch as numbers. The module describes what executors do with them.

    Attributes:
        geometry: float32 [N, 3, 3], maps output points to points of the stored image.
        color: float32 [N, 3, 4], maps (R, G, B, 1) in 0..255 to normalized RGB.
        clip: int32 [N, 4], the box (x0, y0, x1, y1) of the stored image that is used, in pixels.
        image_size: Side of the output in pixels.
        border: What is outside the image: "zero", "edge" or "reflect".
        axis_aligned: The geometry of all samples is a box, perhaps mirrored.
        erase: int32 [N, 4], a box (x0, y0, x1, y1) of output pixels, empty if x0 == x1. None:
            nothing is erased.
        chains: The operations of a policy. None: there is no policy.
        erase_mode: What erased boxes get: "const", "rand" or "pixel".
        erase_keys: uint64 [N], keys of the noise in erased boxes. None: they get none.
        cubic: Whether images are resized by a cubic filter, and not by a triangle.
        blur: float32 [N], deviation of the blur in output pixels. 0: the sample is not blurred.
            None: no sample is.
        blur_size: Pixels along each side of its filter.

    Example:
        ```python
        import numpy as np

        import slipform as sf
        from slipform.pipelines.plan.plan import draw

        half = ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5])
        spec = sf.Augmentation(image_size=64, crop="random_resized").resolved(*half)
        samples, sides = np.arange(4), np.full(4, 96, np.int32)
        plan = draw(spec, samples, sides, sides, seed=0, epoch=3)
        assert plan.geometry.shape == (4, 3, 3)
        ```
    """

    geometry: _Float32
    color: _Float32
    clip: _Int32
    image_size: int
    border: Border
    axis_aligned: bool
    erase: _Int32 | None = None
    chains: Chains | None = None
    erase_mode: EraseMode = "const"
    erase_keys: npt.NDArray[np.uint64] | None = None
    cubic: bool = False
    blur: _Float32 | None = None
    blur_size: int = 1

    def __len__(self) -> int:
        return len(self.geometry)

    def part(self, at: slice) -> Plan:
        """The Plan of some of the samples.

        Args:
            at: Positions of the samples.

        Returns:
            A Plan of views.
        """
        erase = None if self.erase is None else self.erase[at]
        chains = None if self.chains is None else self.chains.part(at)
        return replace(
            self,
            geometry=self.geometry[at],
            color=self.color[at],
            clip=self.clip[at],
            erase=erase,
            chains=chains,
            erase_keys=None if self.erase_keys is None else self.erase_keys[at],
            blur=None if self.blur is None else self.blur[at],
        )


def draw(
    spec: Augmentation, indices: _Int64, heights: _Int32, widths: _Int32, seed: int, epoch: int
) -> Plan:
    """Draw the Plan of a batch.

    The numbers of a sample depend on (seed, epoch, index) alone, not on the rest of the batch. They
    come from `slipform.pipelines.plan.philox`.

    Args:
        spec: The resolved augmentation.
        indices: int64 [N], the samples.
        heights: int32 [N], heights of the stored images in pixels.
        widths: int32 [N], widths of the stored images in pixels.
        seed: The seed.
        epoch: The epoch, from 0.

    Returns:
        The Plan.
    """
    assert not isinstance(spec.normalize, str), "resolve the spec first"
    n = len(indices)
    geometry = np.empty((n, 3, 3), np.float32)
    color = np.empty((n, 3, 4), np.float32)
    clip = np.empty((n, 4), np.int32)
    erase = np.empty((n, 4), np.int32)
    indices = np.asarray(indices, np.int64)
    kernels.draw(
        indices, np.asarray(heights, np.int32), np.asarray(widths, np.int32),
        np.uint64(seed), np.uint64(epoch), numbers_of(spec), geometry, color, clip, erase,
    )  # fmt: skip
    keys = sigmas = None
    if spec.blur:
        sigmas = np.empty(n, np.float32)
        draw_sigmas(
            indices, np.uint64(seed), np.uint64(epoch), float(spec.blur.probability),
            *map(float, spec.blur.sigma), sigmas,
        )  # fmt: skip
    if spec.erase and spec.erase_mode != "const":
        keys = np.empty(n, np.uint64)
        draw_keys(indices, np.uint64(seed), np.uint64(epoch), keys)
    plan = Plan(
        geometry, color, clip, spec.image_size, spec.border, spec.axis_aligned,
        erase if spec.erase else None, erase_mode=spec.erase_mode, erase_keys=keys,
        cubic=spec.interpolation == "bicubic", blur=sigmas,
        blur_size=spec.blur.size_for(spec.image_size),
    )  # fmt: skip
    if not spec.own and not spec.policy:
        return plan
    sizes = np.stack([widths, heights], axis=1)
    if spec.own:
        plan = with_own(plan, spec, indices, sizes, seed, epoch)
    if not spec.policy:
        return plan
    # A crop that has nothing of the image still needs a pixel for the renderers.
    clip = plan.clip.copy()  # that of an own augmentation may be read-only
    clip[:, :2] = np.minimum(clip[:, :2], sizes - 1)
    clip[:, 2:] = np.maximum(clip[:, 2:], clip[:, :2] + 1)
    chains = draw_chains(spec.policy, spec.image_size, indices, plan.geometry, seed, epoch)
    return replace(plan, clip=clip, chains=chains)


def numbers_of(spec: Augmentation) -> np.void:
    """An augmentation in the form of the kernels.

    Args:
        spec: The resolved augmentation.

    Returns:
        A record of `kernels.NUMBERS`. It is shared: do not change it.
    """
    return _numbers_of(spec, not spec.axis_aligned)  # a notebook may register with other `warps`


# It takes 40 microseconds and is needed for each batch.
@lru_cache(maxsize=16)
def _numbers_of(spec: Augmentation, warp: bool) -> np.void:
    assert not isinstance(spec.normalize, str)
    (means, deviations), jitter = spec.normalize, spec.color_jitter
    own = {
        "crop": kernels.CROPS[spec.crop],
        "flip": kernels.FLIPS[spec.flip],
        "warp": warp,
        "cut": bool(spec.policy) or (warp and spec.corners == "black"),
        "brightness": jitter.brightness,
        "contrast": jitter.contrast,
        "saturation": jitter.saturation,
        "hue": jitter.hue,
        "means": means,
        "deviations": deviations,
    }
    numbers = np.empty(1, kernels.NUMBERS)
    for name in kernels.NUMBERS.names or ():
        numbers[name] = own[name] if name in own else getattr(spec, name)
    record: np.void = numbers[0]  # numba reads it 3 us sooner than a np.record
    return record
