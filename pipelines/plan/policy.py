"""`Policy`: RandAugment and its relatives. [augment.policy] in a recipe.

In: settings. Out: a frozen, checked spec. `slipform.pipelines.plan.chains` draws the operations of
each sample from it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from slipform.pipelines.errors import ConfigError
from slipform.pipelines.plan.checks import STRICT, check_types
from slipform.pipelines.toml_text import shown

__all__ = ["Policy"]

# The policies that read a setting.
_READ_BY = {
    "num_ops": ("rand_augment",),
    "magnitude": ("rand_augment",),
    "num_magnitude_bins": ("rand_augment", "trivial_augment_wide"),
    **dict.fromkeys(("severity", "mixture_width", "chain_depth", "alpha", "all_ops"), ("augmix",)),
}

_Name = Literal[
    "none",
    "rand_augment",
    "trivial_augment_wide",
    "auto_augment_imagenet",
    "auto_augment_cifar10",
    "auto_augment_svhn",
    "augmix",
]
_MOST = 10  # operations of a chain, and chains


@dataclass(frozen=True)
class Policy:
    """Random operations on the cropped and flipped image.

    Names, spaces of operations and magnitudes are those of torchvision.transforms.v2. Sampling is
    bilinear, and what comes from outside the crop is black.

    Args:
        name: "none", "rand_augment" (Cubuk et al., 2020), "trivial_augment_wide" (Müller and
            Hutter, 2021), "auto_augment_imagenet", "auto_augment_cifar10", "auto_augment_svhn"
            (Cubuk et al., 2019) or "augmix" (Hendrycks et al., 2020). Default "none".
        num_ops: rand_augment: operations per image, 0 to 10. Default 2.
        magnitude: rand_augment: number of the magnitude, from 0. Default 9.
        num_magnitude_bins: rand_augment, trivial_augment_wide: how many magnitudes there are.
            Default 31.
        severity: augmix: largest magnitude, 1 to 10. Default 3.
        mixture_width: augmix: number of chains, 1 to 10. Default 3.
        chain_depth: augmix: operations of a chain, 1 to 10. -1: 1, 2 or 3 at random. Default -1.
        alpha: augmix: parameter of the distributions of the weights. Default 1.
        all_ops: augmix: also brightness, color, contrast and sharpness. Default True.

    Raises:
        ConfigError: A value is not allowed, or the policy does not read a setting that is not its
            default.

    Example:
        >>> import slipform as sf
        >>> policy = sf.Policy("rand_augment", num_ops=2, magnitude=9)
        >>> sf.Augmentation(image_size=64, crop="random_resized", policy=policy).policy.magnitude
        9
    """

    __pydantic_config__ = STRICT

    name: _Name = "none"
    num_ops: int = 2
    magnitude: int = 9
    num_magnitude_bins: int = 31
    severity: int = 3
    mixture_width: int = 3
    chain_depth: int = -1
    alpha: float = 1.0
    all_ops: bool = True

    def __post_init__(self) -> None:
        def check(ok: bool, name: str, allowed: str) -> None:
            if not ok:
                raise ConfigError(
                    f"augment.policy.{name} = {shown(getattr(self, name))}: give {allowed}"
                )

        check_types(self, "augment.policy")
        check(0 <= self.num_ops <= _MOST, "num_ops", f"0 to {_MOST}")
        check(2 <= self.num_magnitude_bins <= 1000, "num_magnitude_bins", "2 to 1000")
        check(
            self.name != "rand_augment" or 0 <= self.magnitude < self.num_magnitude_bins,
            "magnitude",
            f"0 to {self.num_magnitude_bins - 1}, below num_magnitude_bins",
        )
        check(1 <= self.severity <= 10, "severity", "1 to 10")
        check(1 <= self.mixture_width <= _MOST, "mixture_width", f"1 to {_MOST}")
        check(
            self.chain_depth == -1 or 1 <= self.chain_depth <= _MOST,
            "chain_depth",
            f"1 to {_MOST}, or -1 (1 to 3 at random)",
        )
        check(0.01 <= self.alpha <= 1000, "alpha", "0.01 to 1000")
        self._check_read()

    def _check_read(self) -> None:
        """Check that the policy reads each setting that has another value than its default."""
        unread = self.unread(self.name)
        for entry in fields(self):
            value = getattr(self, entry.name)
            if entry.name not in unread or value == entry.default:
                continue
            readers = " or ".join(f'"{name}"' for name in _READ_BY[entry.name])
            raise ConfigError(
                f"augment.policy.{entry.name} = {shown(value)} has no effect: augment.policy.name"
                f' is "{self.name}", and it is a setting of {readers}. Remove it, or choose another'
                " name"
            )

    @staticmethod
    def unread(name: str) -> frozenset[str]:
        """The settings that a policy does not read.

        Args:
            name: The name of the policy.
        """
        return frozenset(setting for setting, readers in _READ_BY.items() if name not in readers)

    def __bool__(self) -> bool:
        """Whether there is a policy."""
        return self.name != "none"
