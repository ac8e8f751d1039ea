"""`LabelAnswers`: the logits of a model for every image of a split, with several labels each.

In: logits and labels. Out: probabilities and losses.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

__all__ = ["LabelAnswers"]

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LabelAnswers:
    """The logits of the images of a split, in the order of the dataset.

    Attributes:
        logits: float32 [N, C].
        positive: bool [N, C], the labels.
        indices: int64 [N], the position of each image in the split.
    """

    logits: npt.NDArray[np.float32]
    positive: npt.NDArray[np.bool_]
    indices: npt.NDArray[np.int64]

    @cached_property
    def probabilities(self) -> _Floats:
        """The probability of each class, float64 [N, C]."""
        return np.exp(-np.logaddexp(0.0, -self.logits.astype(np.float64)))

    def class_losses(self, image: int) -> _Floats:
        """The binary cross entropy of each class of an image, float64 [C].

        Args:
            image: Its position in `logits`.
        """
        logits = self.logits[image].astype(np.float64)
        return np.asarray(np.logaddexp(0.0, np.where(self.positive[image], -logits, logits)))

    @cached_property
    def losses(self) -> _Floats:
        """The mean binary cross entropy over the classes, of each image, float64 [N]."""
        return np.array([self.class_losses(image).mean() for image in range(len(self))])

    def __len__(self) -> int:
        """The number of images."""
        return len(self.positive)
