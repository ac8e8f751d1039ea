"""`Augmentation`: how a stored image becomes the input of the net. [augment] in a recipe.

In: settings. Out: a frozen, checked spec. `slipform.pipelines.plan.plan.draw` turns it into the
numbers of one batch.

The parameters have the meaning that they have in torchvision.transforms.v2. The Plan is one matrix
and one color map, so it differs where torchvision's steps are not linear:
- color jitter: values are not clamped, neither between the steps nor after them. Contrast is about
  mid-gray (0.5), not about the mean of the image. Hue is a rotation about the gray axis of RGB, not
  a shift in HSV. The order of the steps is fixed: brightness, contrast, saturation, hue.
  torchvision shuffles it;
- geometry: the image is sampled once. torchvision samples it after every step;
- fill: it is black before normalization, also for rotation and perspective;
- corners: rotation, perspective and affine parts move points from outside the crop into the output.
  With corners = "image" (the default) they show what the stored image has there. With
  corners = "black" they are black, as in torchvision after a center crop. The edge of the crop is
  then rounded to stored pixels, and the crop is cut once. torchvision cuts after every step.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from slipform.pipelines.errors import ConfigError, unknown
from slipform.pipelines.plan.blur import Blur
from slipform.pipelines.plan.checks import STRICT, check_types, is_number, items
from slipform.pipelines.plan.color_jitter import ColorJitter
from slipform.pipelines.plan.policy import Policy
from slipform.pipelines.plan.registry import checked_table, warps
from slipform.pipelines.toml_text import shown

__all__ = ["MEAN_STD", "Augmentation", "Border", "EraseMode", "Interpolation"]

_Crop = Literal["center", "random", "random_resized", "none"]
_Flip = Literal["none", "horizontal", "vertical", "both", "alternating"]
Border = Literal["zero", "reflect", "edge"]
EraseMode = Literal["const", "rand", "pixel"]
_Corners = Literal["image", "black"]
_MixMode = Literal["batch", "pair", "elem"]
Interpolation = Literal["bilinear", "bicubic"]
_Pair = tuple[float, float]

# Mean and standard deviation per channel (R, G, B), in 0..1.
MEAN_STD = {
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


@dataclass(frozen=True)
class Augmentation:
    """The augmentation: from stored pixels to the input of the net, image_size x image_size.

    Lengths are in pixels, angles in degrees, shares and probabilities in 0..1. Section [augment] of
    a recipe has the same names. Default is off, unless another default is given.

    Args:
        image_size: Side of the output, 1 to 4096. Default 224.
        resize: Shorter side before a center or random crop. 0: the stored size. Default 256.
        crop: "center", "random", "random_resized", or "none", which squeezes the whole image to a
            square. Default "center".
        padding: Pixels that are added on each side after the resize, before a random crop.
        evaluation_resize: `resize` in evaluation. 0: as in training. Default 0.
        border: What is outside the image: "zero" (black), "reflect" or "edge". Default "zero".
        corners: What rotation, perspective and affine parts show from outside the crop: "image"
            (the stored image) or "black". Default "image".
        interpolation: The filter of the resize, "bilinear" or "bicubic", both with antialiasing.
            Warps and the movements of a policy are sampled bilinearly after it, as in torchvision;
            a warp without a policy enlarges bilinearly. Default "bilinear".
        scale: random_resized: lowest and highest share of the area. Default 0.08 to 1.
        ratio: random_resized: lowest and highest width / height. Default 3/4 to 4/3.
        flip: "none", "horizontal", "vertical", "both", or "alternating", which mirrors each image
            in every second epoch (Keller Jordan, airbench, 2024).
        flip_probability: Probability of a flip per direction. Default 0.5.
        rotation: Angle, uniform in [-rotation, rotation], about the center of the crop.
        perspective: Distortion scale, as in torchvision's RandomPerspective.
        perspective_probability: Probability of a distortion. Default 0.5.
        translate: Largest shares of width and height, as in torchvision's RandomAffine.
        zoom: Lowest and highest factor, as `scale` in RandomAffine.
        shear: Angle along x, uniform in [-shear, shear].
        color_jitter: A ColorJitter(brightness, contrast, saturation, hue).
        grayscale: Probability of a gray image.
        blur: A Blur(probability, kernel_size, sigma): a Gaussian blur after the policy.
        policy: A Policy(name, ...): RandAugment and its relatives, after crop, flip and warp, and
            before color jitter. With one the corners are black, and `border` is "zero".
        normalize: "half", "imagenet", "dataset", or (mean, std) with three numbers each in 0..1.
            Default "half". Recipes also have "model": the numbers of the net, with its size.
        mixup: Alpha of the Beta distribution (Zhang et al., 2018).
        cutmix: The same (Yun et al., 2019). With both, each batch takes one of them at random.
        mix_mode: What has numbers of its own, as `mode` in timm: the "batch", each "pair" of
            images, or each image ("elem"). Default "batch".
        mix_probability: Probability that a batch is mixed, as `prob` in timm. Default 1.
        switch_probability: With both, the probability of CutMix, as `switch_prob` in timm. Default
            0.5.
        erase: Probability of erasing a box (Zhong et al., 2020).
        erase_mode: What the box gets, as in timm: "const" (the mean color), "rand" (one normal
            color) or "pixel" (a normal color for each pixel). Default "const".
        own: Augmentations of `register_augmentation`: name -> its options. Default: none.

    Raises:
        ConfigError: A value is not allowed.

    Example:
        >>> import slipform as sf
        >>> spec = sf.Augmentation(image_size=64, resize=72, crop="random", flip="horizontal")
        >>> spec.evaluation().flip
        'none'
    """

    __pydantic_config__ = STRICT

    image_size: int = 224
    resize: int = 256
    crop: _Crop = "center"
    padding: int = 0
    evaluation_resize: int = 0
    border: Border = "zero"
    interpolation: Interpolation = "bilinear"
    corners: _Corners = "image"
    scale: _Pair = (0.08, 1.0)
    ratio: _Pair = (3 / 4, 4 / 3)
    flip: _Flip = "none"
    flip_probability: float = 0.5
    rotation: float = 0.0
    perspective: float = 0.0
    perspective_probability: float = 0.5
    translate: _Pair = (0.0, 0.0)
    zoom: _Pair = (1.0, 1.0)
    shear: float = 0.0
    color_jitter: ColorJitter = field(default_factory=ColorJitter)
    grayscale: float = 0.0
    policy: Policy = field(default_factory=Policy)
    blur: Blur = field(default_factory=Blur)
    normalize: str | tuple[tuple[float, float, float], tuple[float, float, float]] = "half"
    mixup: float = 0.0
    cutmix: float = 0.0
    mix_mode: _MixMode = "batch"
    mix_probability: float = 1.0
    switch_probability: float = 0.5
    erase: float = 0.0
    erase_mode: EraseMode = "const"
    own: dict[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        def check(ok: bool, name: str, allowed: str) -> None:
            if not ok:
                raise ConfigError(f"augment.{name} = {shown(getattr(self, name))}: give {allowed}")

        check_types(self, "augment")
        object.__setattr__(self, "own", checked_table(self.own))
        # Lists become tuples, so that an Augmentation can be a key of a cache.
        for name in ("scale", "ratio", "translate", "zoom"):
            pair = items(getattr(self, name))
            check(len(pair) == 2 and all(map(is_number, pair)), name, "two numbers")
            object.__setattr__(self, name, pair)
        if not isinstance(self.normalize, str):
            triples = [items(values) for values in items(self.normalize)]
            numbers = all(is_number(value) for values in triples for value in values)
            right = numbers and [len(values) for values in triples] == [3, 3]
            check(right, "normalize", "two times 3 numbers")
            floats = tuple(tuple(float(value) for value in values) for values in triples)
            object.__setattr__(self, "normalize", floats)
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
            "mix_probability",
            "switch_probability",
        ):
            check(0 <= getattr(self, name) <= 1, name, "0 to 1")
        check(0 <= self.perspective <= 1, "perspective", "0 to 1")
        check(
            0 < self.scale[0] <= self.scale[1] <= 1,
            "scale",
            "a low and a high share of the area, above 0 and up to 1",
        )
        check(
            0 < self.ratio[0] <= self.ratio[1], "ratio", "a low and a high width / height, above 0"
        )
        # Beyond these limits a sample takes gigabytes, or its numbers are infinite.
        low, high = self.zoom
        check(0.01 <= low <= high <= 100, "zoom", "a low and a high factor, 0.01 to 100")
        check(all(0 <= t <= 1 for t in self.translate), "translate", "two shares, 0 to 1")
        check(0 <= self.rotation <= 180, "rotation", "0 to 180 degrees")
        check(0 <= self.shear <= 89, "shear", "0 to 89 degrees")
        check(self.mixup >= 0, "mixup", "0 (off) or alpha")
        check(self.cutmix >= 0, "cutmix", "0 (off) or alpha")
        check(
            not self.padding or self.crop == "random",
            "padding",
            'it only with crop = "random", which moves the box',
        )
        check(
            not self.policy or self.border == "zero",
            "border",
            f'"zero" with augment.policy.name = "{self.policy.name}", which makes black corners',
        )
        check(
            not self.policy or self.padding < self.image_size,
            "padding",
            f'less than image_size with augment.policy.name = "{self.policy.name}"',
        )
        check(
            not self.blur or self.blur.size_for(self.image_size) // 2 < self.image_size,
            "blur",
            "a kernel_size below twice image_size",
        )
        if not isinstance(self.normalize, str):
            mean, std = self.normalize
            check(all(0 <= m <= 1 for m in mean), "normalize", "means of 0 to 1, not of 0 to 255")
            check(all(s > 0 for s in std), "normalize", "standard deviations above 0")

    @property
    def axis_aligned(self) -> bool:
        """True if the geometry is a box, perhaps mirrored, without a warp."""
        return not (
            self.rotation
            or self.perspective
            or self.shear
            or any(self.translate)
            or self.zoom != (1.0, 1.0)
            or warps(self.own)
        )

    @property
    def on_cores(self) -> str:
        """The setting that only CPU cores can render, `name = value`. "": there is none."""
        if self.interpolation == "bicubic":
            return 'augment.interpolation = "bicubic"'
        if self.erase and self.erase_mode != "const":
            return f'augment.erase_mode = "{self.erase_mode}"'
        return ""

    @property
    def beyond_dali(self) -> str:
        """The setting that `dali` cannot render, without a warp. "": there is none."""
        if self.policy:
            return f'augment.policy.name = "{self.policy.name}"'
        if self.blur:
            return f"augment.blur.probability = {self.blur.probability}"
        return self.on_cores

    @property
    def fits_dali(self) -> bool:
        """True if `dali` can render it, and thus all executors.

        `dali` can warp neither with a reflected border nor with black corners.
        """
        if self.beyond_dali:
            return False
        return self.axis_aligned or (self.border != "reflect" and self.corners != "black")

    def evaluation(self) -> Augmentation:
        """The augmentation for evaluation: resize, center crop (or squeeze), normalize.

        Returns:
            A new Augmentation without anything random.
        """
        return Augmentation(
            image_size=self.image_size,
            resize=self.evaluation_resize or self.resize,
            crop="none" if self.crop == "none" else "center",
            border=self.border,
            interpolation=self.interpolation,
            normalize=self.normalize,
        )

    def resolved(self, mean: list[float], std: list[float]) -> Augmentation:
        """Replace the name in `normalize` by numbers.

        Args:
            mean: Mean of the dataset per channel (R, G, B), in 0..1, for "dataset".
            std: Its standard deviation per channel.

        Returns:
            An Augmentation whose `normalize` is (mean, std). A channel that is constant has no
            deviation: it is divided by 1.
        """
        if not isinstance(self.normalize, str):
            return self
        if self.normalize == "dataset":
            red, green, blue = (one or 1.0 for one in std)
            numbers = ((mean[0], mean[1], mean[2]), (red, green, blue))
        else:
            numbers = MEAN_STD[self.normalize]
        return replace(self, normalize=numbers)
