"""What is done to an image on its way to the net: `Augmentation`, the [augment] section of a
recipe.

In: settings. Out: a frozen, checked spec; `slipform.pipelines.plan.plan.draw` turns it into the
numbers of one batch.

Parameters mean what torchvision.transforms.v2 means by them. The Plan is one matrix and one color
map, so it differs where torchvision's chain is not linear:
- color jitter is not clamped between its steps (nor at its end); contrast turns about mid-gray
  (0.5) and not about the image's own mean; hue is a rotation about the gray axis of RGB and not a
  shift in HSV; the order of the four is fixed (brightness, contrast, saturation, hue) where
  torchvision shuffles it;
- the whole geometry is sampled once, where torchvision would resample after every step;
- fill is black before normalization, for rotation and perspective too;
- with corners = "black" what rotation, perspective and affine parts bring in from outside the crop
  is black, as in torchvision after a center crop; the crop's edge is rounded to stored pixels and
  the crop is cut once, where torchvision cuts after every step. With corners = "image" (the
  default) they bring in what the stored image has there.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from slipform.pipelines.errors import ConfigError, unknown

Crop = Literal["center", "random", "random_resized", "none"]
Flip = Literal["none", "horizontal", "vertical", "both", "alternating"]
Border = Literal["zero", "reflect", "edge"]
Corners = Literal["image", "black"]
Pair = tuple[float, float]

MEAN_STD = {
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
_STRICT = {"extra": "forbid"}  # read by pydantic where a RunConfig nests these


@dataclass(frozen=True)
class ColorJitter:
    """Factors as torchvision's ColorJitter draws them: uniform in [max(0, 1 - x), 1 + x]; hue in
    [-x, x] turns, x <= 0.5."""

    __pydantic_config__ = _STRICT

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation", "hue"):
            if getattr(self, name) < 0:
                raise ConfigError(
                    f"augment.color_jitter.{name} = {getattr(self, name)}: give 0 or more"
                )
        if self.hue > 0.5:
            raise ConfigError(f"augment.color_jitter.hue = {self.hue}: give 0 to 0.5 (turns)")


@dataclass(frozen=True)
class Augmentation:
    """The spec of a pipeline from stored pixels to the net's input, image_size x image_size.

    Lengths are in pixels, angles in degrees, fractions in 0..1. The table of section [augment] of a
    recipe has the same names.

    Args:
        image_size: Side of the output, 1 to 4096. Default 224.
        resize: Shorter side before a center or random crop; 0 keeps the stored size. Default 256.
        crop: "center", "random", "random_resized", or "none", which squeezes the whole image.
        padding: Pixels added on each side after the resize, before a random crop.
        evaluation_resize: The same in evaluation; 0 takes that of training. Default 0.
        border: What lies outside the image: "zero" (black), "reflect" or "edge".
        corners: What rotation, perspective and affine parts bring in from outside the crop:
            "image" (what is stored there) or "black". Default "image".
        scale: random_resized: lowest and highest share of the area.
        ratio: random_resized: lowest and highest width / height.
        flip: "none", "horizontal", "vertical", "both"; "alternating" mirrors each image in every
            other epoch (Keller Jordan, airbench, 2024).
        flip_probability: Of a flip, per direction. Default 0.5.
        rotation: Uniform in [-rotation, rotation] about the crop's center.
        perspective: Distortion scale, as torchvision's RandomPerspective.
        perspective_probability: Of a distortion. Default 0.5.
        translate: Largest share of width and height, as torchvision's RandomAffine.
        zoom: Lowest and highest factor, as RandomAffine's scale.
        shear: Uniform in [-shear, shear], along x.
        color_jitter: A ColorJitter(brightness, contrast, saturation, hue).
        grayscale: Probability of a gray image.
        normalize: "half", "imagenet", "dataset", or (mean, std), three numbers each in 0..1.
        mixup: Alpha of the Beta distribution (Zhang et al., 2018); 0 is off.
        cutmix: Alpha (Yun et al., 2019); with both set, each batch takes one of them at random.
        erase: Probability of erasing a box (Zhong et al., 2020).

    Raises:
        ConfigError: A value is not allowed.

    Example:
        >>> import slipform as sf
        >>> spec = sf.Augmentation(image_size=64, resize=72, crop="random", flip="horizontal")
        >>> spec.evaluation().flip
        'none'
    """

    __pydantic_config__ = _STRICT

    image_size: int = 224
    resize: int = 256  # shorter side before a center or random crop; 0 keeps the stored size
    crop: Crop = "center"  # "none" squeezes the whole image to the square
    padding: int = 0  # added on each side after the resize, before a random crop
    evaluation_resize: int = 0  # resize in evaluation; 0: as in training
    border: Border = "zero"  # what lies outside the image
    corners: Corners = "image"  # what a warp brings in from outside the crop
    scale: Pair = (0.08, 1.0)  # random_resized: share of the area
    ratio: Pair = (3 / 4, 4 / 3)  # random_resized: width / height
    # "alternating": each image flips in every other epoch (Keller Jordan, airbench, 2024)
    flip: Flip = "none"
    flip_probability: float = 0.5
    rotation: float = 0.0  # uniform in [-rotation, rotation] about the crop's center
    perspective: float = 0.0  # distortion scale, as RandomPerspective's
    perspective_probability: float = 0.5
    translate: Pair = (0.0, 0.0)  # largest share of the width and the height, as RandomAffine's
    zoom: Pair = (1.0, 1.0)  # RandomAffine's scale
    shear: float = 0.0  # uniform in [-shear, shear], along x
    color_jitter: ColorJitter = field(default_factory=ColorJitter)
    grayscale: float = 0.0  # probability
    normalize: str | tuple[tuple[float, float, float], tuple[float, float, float]] = "half"
    mixup: float = 0.0  # alpha of the Beta distribution (Zhang et al., 2018); 0 is off
    cutmix: float = (
        0.0  # alpha (Yun et al., 2019); with both set, each batch takes one of them at random
    )
    erase: float = 0.0  # probability of erasing a box (Zhong et al., 2020)

    def __post_init__(self) -> None:
        def check(ok: bool, name: str, allowed: str) -> None:
            if not ok:
                raise ConfigError(f"augment.{name} = {getattr(self, name)}: give {allowed}")

        choices = (("crop", Crop), ("flip", Flip), ("border", Border), ("corners", Corners))
        for name, allowed in choices:
            if getattr(self, name) not in allowed.__args__:  # type: ignore[attr-defined]
                raise unknown(f"augment.{name}", getattr(self, name), allowed.__args__)  # type: ignore[attr-defined]
        if isinstance(self.normalize, str) and self.normalize not in (*MEAN_STD, "dataset"):
            raise unknown("augment.normalize", self.normalize, (*MEAN_STD, "dataset"))
        check(1 <= self.image_size <= 4096, "image_size", "1 to 4096")
        check(self.resize >= 0, "resize", "0 (as stored) or the shorter side in pixels")
        check(self.evaluation_resize >= 0, "evaluation_resize", "0 (as resize) or pixels")
        check(0 <= self.padding < 4096, "padding", "0 or more pixels")
        for name in (
            "flip_probability",
            "perspective_probability",
            "grayscale",
            "erase",
            "perspective",
        ):
            check(0 <= getattr(self, name) <= 1, name, "0 to 1")
        check(
            0 < self.scale[0] <= self.scale[1] <= 1,
            "scale",
            "a low and a high share of the area, above 0 and up to 1",
        )
        check(
            0 < self.ratio[0] <= self.ratio[1], "ratio", "a low and a high width / height, above 0"
        )
        check(0 < self.zoom[0] <= self.zoom[1], "zoom", "a low and a high factor, above 0")
        check(all(0 <= t <= 1 for t in self.translate), "translate", "two shares, 0 to 1")
        check(0 <= self.rotation <= 180, "rotation", "0 to 180 degrees")
        check(0 <= self.shear < 90, "shear", "0 to below 90 degrees")
        check(self.mixup >= 0, "mixup", "0 (off) or alpha")
        check(self.cutmix >= 0, "cutmix", "0 (off) or alpha")
        check(
            not self.padding or self.crop == "random",
            "padding",
            'it only with crop = "random", which is what moves the box',
        )
        if not isinstance(self.normalize, str):
            check(all(s > 0 for s in self.normalize[1]), "normalize", "standard deviations above 0")

    @property
    def axis_aligned(self) -> bool:
        """True where every sample's geometry is a box with flips: no rotation, perspective or
        affine part."""
        return not (
            self.rotation
            or self.perspective
            or self.shear
            or any(self.translate)
            or self.zoom != (1.0, 1.0)
        )

    @property
    def warps_everywhere(self) -> bool:
        """True where every executor can do the geometry: dali warps with neither a reflected border
        nor black corners."""
        return self.axis_aligned or (self.border != "reflect" and self.corners != "black")

    def evaluation(self) -> Augmentation:
        """The same without anything random: resize, center crop (or the squeeze), normalize."""
        return Augmentation(
            image_size=self.image_size,
            resize=self.evaluation_resize or self.resize,
            crop="none" if self.crop == "none" else "center",
            border=self.border,
            normalize=self.normalize,
        )

    def resolved(self, mean: list[float], std: list[float]) -> Augmentation:
        """With `normalize` as numbers: names replaced, "dataset" by the given mean and std (in
        0..1)."""
        if not isinstance(self.normalize, str):
            return self
        if self.normalize == "dataset":
            numbers = ((mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))
        else:
            numbers = MEAN_STD[self.normalize]
        return replace(self, normalize=numbers)
