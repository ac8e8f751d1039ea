"""`ColorJitter`: random changes of color. [augment.color_jitter] in a recipe.

In: settings. Out: a frozen, checked spec.
"""

from __future__ import annotations

from dataclasses import dataclass

from slipform.pipelines.errors import ConfigError
from slipform.pipelines.plan.checks import STRICT, check_types
from slipform.pipelines.toml_text import shown

__all__ = ["ColorJitter"]


@dataclass(frozen=True)
class ColorJitter:
    """Random changes of color, as in torchvision's ColorJitter.

    Args:
        brightness: Strength x: the factor is uniform in [max(0, 1 - x), 1 + x].
        contrast: The same.
        saturation: The same.
        hue: Strength x, 0 to 0.5: the hue is turned by a part of the circle, uniform in [-x, x].

    Raises:
        ConfigError: A value is not allowed.

    Example:
        >>> import slipform as sf
        >>> spec = sf.Augmentation(color_jitter=sf.ColorJitter(brightness=0.4, hue=0.1))
        >>> spec.color_jitter.hue
        0.1
    """

    __pydantic_config__ = STRICT

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __post_init__(self) -> None:
        check_types(self, "augment.color_jitter")
        for name in ("brightness", "contrast", "saturation", "hue"):
            # The colors are a product of these factors: float32 has no number for very large ones.
            value, most = getattr(self, name), 0.5 if name == "hue" else 100
            if not 0 <= value <= most:
                turns = " (turns)" if name == "hue" else ""
                raise ConfigError(
                    f"augment.color_jitter.{name} = {shown(value)}: give 0 to {most}{turns}"
                )

    def __bool__(self) -> bool:
        """Whether any color is changed."""
        return any((self.brightness, self.contrast, self.saturation, self.hue))
