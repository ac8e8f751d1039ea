"""`Blur`: a random Gaussian blur. [augment.blur] in a recipe.

In: settings. Out: a frozen, checked spec. `sigmas.py` draws.
"""

from __future__ import annotations

from dataclasses import dataclass

from slipform.pipelines.errors import ConfigError
from slipform.pipelines.plan.checks import STRICT, check_types, is_number
from slipform.pipelines.toml_text import shown

__all__ = ["Blur"]


@dataclass(frozen=True)
class Blur:
    """A random Gaussian blur, as torchvision's GaussianBlur in a RandomApply.

    It comes after crop, flip, warp and policy. It commutes with color jitter and grayscale, which
    are linear here.

    Args:
        probability: The probability of blurring an image, 0 to 1. SimCLR (Chen et al., 2020) has
            0.5. Default 0.
        kernel_size: Pixels along each side of the filter: an odd number. 0: a tenth of image_size,
            as in SimCLR. Default 0.
        sigma: The lowest and the highest standard deviation in pixels of the output, of which one
            is drawn uniformly. Default 0.1 to 2.

    Raises:
        ConfigError: A value is not allowed.

    Example:
        >>> import slipform as sf
        >>> spec = sf.Augmentation(image_size=96, crop="random_resized", blur=sf.Blur(0.5))
        >>> spec.blur.size_for(96)
        9
    """

    __pydantic_config__ = STRICT

    probability: float = 0.0
    kernel_size: int = 0
    sigma: tuple[float, float] = (0.1, 2.0)

    def __post_init__(self) -> None:
        def check(ok: bool, name: str, allowed: str) -> None:
            if not ok:
                raise ConfigError(
                    f"augment.blur.{name} = {shown(getattr(self, name))}: give {allowed}"
                )

        check_types(self, "augment.blur")
        check(0 <= self.probability <= 1, "probability", "0 to 1")
        size = self.kernel_size
        check(size == 0 or (size % 2 == 1 and 1 <= size <= 255), "kernel_size", "0, 1, 3, ... 255")
        pair = tuple(self.sigma) if isinstance(self.sigma, list | tuple) else ()
        right = len(pair) == 2 and all(map(is_number, pair)) and 0 < pair[0] <= pair[1] <= 1000
        check(right, "sigma", "a low and a high number of pixels, above 0 and up to 1000")
        object.__setattr__(self, "sigma", pair)

    def size_for(self, image_size: int) -> int:
        """The pixels along each side of the filter.

        Args:
            image_size: Side of the output in pixels.
        """
        return self.kernel_size or max(3, image_size // 10 // 2 * 2 + 1)

    def __bool__(self) -> bool:
        """Whether any image is blurred."""
        return self.probability > 0
