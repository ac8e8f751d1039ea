"""The numbers of one batch: `draw` turns an Augmentation into a `Plan`.

In: a spec, sample indices, the stored images' sizes, seed and epoch. Out: a Plan; what the
executors do with it is written here once, in words:

Coordinates are continuous: pixel i covers [i, i + 1), its center is i + 0.5. `geometry` maps an
output point (x, y, 1) to a point of the stored image (divide by the third component).

Axis-aligned (a box, perhaps mirrored): the output pixel's center (x + 0.5, y + 0.5) is mapped, and
the stored pixels about it are averaged with a triangle whose half-width is max(1, scale) per axis,
scale being stored pixels per output pixel: bilinear where an axis is enlarged, antialiased where it
is reduced, as Pillow and torchvision (antialias=True) do. Pixels outside `clip` do not exist:
weights are renormalized over those inside. A center outside `clip` takes `border`: zero is black;
edge is the outermost output pixel repeated; reflect mirrors output pixels about the outermost one's
center.

Otherwise (rotation, perspective, affine): where the map reduces, the image is first resized as
above, by the map's scale along each axis at the output's center; then each output center is sampled
bilinearly, with `border` outside the image. A center beyond a side of `clip` that lies inside the
image is black.

Then `color` maps (R, G, B, 1), R, G, B in 0..255, to normalized RGB; `erase` boxes are filled with
0 (the mean color).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from slipform.pipelines.plan import kernels
from slipform.pipelines.plan.augmentation import Augmentation, Border
from slipform.pipelines.plan.philox import batch_uniforms

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class MixPlan:
    """MixUp or CutMix of a whole batch: image i becomes weight * image i + (1 - weight) * image
    partner[i] (MixUp), or takes `box` from its partner (CutMix: x0, y0, x1, y1 in output pixels;
    weight is then the share that stays)."""

    partner: Int64  # [N]
    weight: float
    box: tuple[int, int, int, int] | None


@dataclass(frozen=True)
class Plan:
    """The augmentation of one batch, as numbers. The module says what executors do with them.

    Attributes:
        geometry: float32 [N, 3, 3], from a pixel of the output to a point of the stored image.
        color: float32 [N, 3, 4], from (R, G, B, 1), 0..255, to normalized RGB.
        clip: int32 [N, 4], the box of the stored image that is used: x0, y0, x1, y1 in pixels.
        image_size: Side of the output in pixels.
        border: What lies outside: "zero", "edge" or "reflect".
        axis_aligned: No sample is rotated or sheared.
        erase: int32 [N, 4], boxes of output pixels, empty where x0 == x1; None: nothing is erased.
        mix: MixUp or CutMix of the batch; None without.

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

    geometry: Float32
    color: Float32
    clip: Int32
    image_size: int
    border: Border
    axis_aligned: bool
    erase: Int32 | None = None
    mix: MixPlan | None = None

    def __len__(self) -> int:
        return len(self.geometry)

    def part(self, at: slice) -> Plan:
        """The Plan of some of the samples, a view; without `mix`, which is a whole batch's."""
        erase = None if self.erase is None else self.erase[at]
        return replace(
            self,
            geometry=self.geometry[at],
            color=self.color[at],
            clip=self.clip[at],
            erase=erase,
            mix=None,
        )


def draw(
    spec: Augmentation, indices: Int64, heights: Int32, widths: Int32, seed: int, epoch: int
) -> Plan:
    """The Plan of the samples `indices` (int64 [N]) whose stored sizes are heights, widths (int32
    [N]), in `epoch`.

    A sample's numbers depend on (seed, epoch, index) alone, not on its neighbors. Philox:
    `slipform.pipelines.plan.philox`.
    """
    assert not isinstance(spec.normalize, str), "resolve the spec first"
    n = len(indices)
    geometry = np.empty((n, 3, 3), np.float32)
    color = np.empty((n, 3, 4), np.float32)
    clip = np.empty((n, 4), np.int32)
    erase = np.empty((n, 4), np.int32)
    kernels.draw(
        np.asarray(indices, np.int64), np.asarray(heights, np.int32), np.asarray(widths, np.int32),
        np.uint64(seed), np.uint64(epoch), numbers_of(spec), geometry, color, clip, erase,
    )  # fmt: skip
    return Plan(
        geometry,
        color,
        clip,
        spec.image_size,
        spec.border,
        spec.axis_aligned,
        erase if spec.erase else None,
    )


def draw_mix(
    spec: Augmentation, batch_size: int, seed: int, epoch: int, batch: int
) -> MixPlan | None:
    """MixUp (Zhang et al., ICLR 2018) or CutMix (Yun et al., ICCV 2019) for batch number `batch`;
    None without either.

    The partner of image i is image i - 1, as torchvision has it (the order is random already). The
    weight is Beta(alpha, alpha) by the ratio of two Gamma variables (Marsaglia and Tsang's method
    in numpy, seeded from Philox).
    """
    if not (spec.mixup or spec.cutmix):
        return None
    u = batch_uniforms(seed, epoch, batch, 5)
    cut = bool(spec.cutmix) and (not spec.mixup or u[0] < 0.5)
    alpha = spec.cutmix if cut else spec.mixup
    weight = float(np.random.Generator(np.random.Philox(key=int(u[1] * 2**53))).beta(alpha, alpha))
    partner = np.roll(np.arange(batch_size), 1)
    if not cut:
        return MixPlan(partner, weight, None)
    size = spec.image_size
    half = 0.5 * size * np.sqrt(1.0 - weight)
    cx, cy = u[2] * size, u[3] * size
    x0, y0, x1, y1 = (
        int(np.clip(v, 0, size)) for v in (cx - half, cy - half, cx + half, cy + half)
    )
    return MixPlan(partner, 1.0 - (x1 - x0) * (y1 - y0) / size**2, (x0, y0, x1, y1))


def numbers_of(spec: Augmentation) -> kernels.Numbers:
    """A resolved spec as the kernels take it.

    Args:
        spec: With mean and std as numbers.
    """
    assert not isinstance(spec.normalize, str)
    (mean, std), jitter = spec.normalize, spec.color_jitter
    return kernels.Numbers(
        image_size=spec.image_size,
        resize=spec.resize,
        crop=kernels.CROPS[spec.crop],
        padding=spec.padding,
        scale=(float(spec.scale[0]), float(spec.scale[1])),
        ratio=(float(spec.ratio[0]), float(spec.ratio[1])),
        flip=kernels.FLIPS[spec.flip],
        flip_probability=float(spec.flip_probability),
        warp=not spec.axis_aligned,
        black_corners=spec.corners == "black",
        rotation=float(spec.rotation),
        perspective=float(spec.perspective),
        perspective_probability=float(spec.perspective_probability),
        translate=(float(spec.translate[0]), float(spec.translate[1])),
        zoom=(float(spec.zoom[0]), float(spec.zoom[1])),
        shear=float(spec.shear),
        brightness=float(jitter.brightness),
        contrast=float(jitter.contrast),
        saturation=float(jitter.saturation),
        hue=float(jitter.hue),
        grayscale=float(spec.grayscale),
        erase=float(spec.erase),
        mean=(float(mean[0]), float(mean[1]), float(mean[2])),
        std=(float(std[0]), float(std[1]), float(std[2])),
    )
