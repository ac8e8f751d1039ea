"""The labels of the training images, and the weights of classes in the loss that follow from them.

In: a loader of the training split, a setting. Out: float32 [C], or None without weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from slipform.pipelines.errors import ConfigError
from slipform.pipelines.label_table import LabelKind
from slipform.pipelines.loader import Loader
from slipform.pipelines.sampling import by_name
from slipform.pipelines.toml_text import shown
from slipform.pipelines.wanted import listed
from slipform.train.config.losses import LossConfig
from slipform.train.config.sections import VARIANTS

__all__ = ["Labels", "class_factors", "positive_factors"]

_WORDS = {"single": "one label", "multi": "any number of labels", "soft": "shares of classes"}


@dataclass(frozen=True)
class Labels:
    """The facts about the labels of the training images that a loss needs.

    Attributes:
        kind: The manifest's `labels`.
        classes: The names of the C classes.
        counts: For each class, the number of training images with it.
        num_images: The number of training images.
    """

    kind: LabelKind
    classes: tuple[str, ...]
    counts: tuple[int, ...]
    num_images: int

    @staticmethod
    def of(loader: Loader) -> Labels:
        """The labels of the split, or fold, of a loader.

        Args:
            loader: The loader of the training split.
        """
        manifest = loader.manifest
        counts = tuple(loader.class_counts)
        return Labels(manifest.labels, tuple(manifest.classes), counts, loader.num_samples)

    def check(self, config: LossConfig) -> None:
        """Check that a loss can learn from these labels.

        Args:
            config: The [loss] section.

        Raises:
            ConfigError: It cannot.
        """
        if self.kind in config.label_kinds:
            return
        kinds = VARIANTS["loss"].items()
        fit = [name for name, loss in kinds if self.kind in getattr(loss, "label_kinds", ())]
        raise ConfigError(
            f'loss.name = "{config.name}" is for images with one label, and an image of this'
            f" dataset has {_WORDS[self.kind]}: give {listed(map(shown, fit))}."
        )


def class_factors(setting: str | Mapping[str, float], labels: Labels) -> Tensor | None:
    """The factor of the loss for the images of each class.

    Args:
        setting: "none", "balanced", or class -> factor.
        labels: The labels of the training images.

    Returns:
        float32 [C]. "balanced": images / (classes with images * images of the class), as in
        scikit-learn; 1 for a class without images. None: no weights.

    Raises:
        ConfigError: There is no such class.
    """
    counts = np.array(labels.counts, np.float64)
    present = max(1, int((counts > 0).sum()))
    return _factors("class_weights", setting, labels, counts.sum() / (present * counts.clip(1)))


def positive_factors(setting: str | Mapping[str, float], labels: Labels) -> Tensor | None:
    """The factor of the binary loss of each class for the images that have it.

    Args:
        setting: "none", "balanced", or class -> factor.
        labels: The labels of the training images.

    Returns:
        float32 [C]. "balanced": the images without the class / the images with it; 1 for a class
        without images. None: no weights.

    Raises:
        ConfigError: There is no such class.
    """
    counts = np.array(labels.counts, np.float64)
    balanced = (labels.num_images - counts) / counts.clip(1)
    return _factors("positive_weights", setting, labels, balanced)


def _factors(
    name: str, setting: str | Mapping[str, float], labels: Labels, balanced: np.ndarray
) -> Tensor | None:
    if setting == "none":
        return None
    if isinstance(setting, Mapping):
        values = by_name(f"loss.{name}", setting, labels.classes)
    else:
        values = np.where(np.array(labels.counts) > 0, balanced, 1.0)
    return torch.tensor(values, dtype=torch.float32)
