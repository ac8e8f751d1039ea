"""`Answers`: the logits of a model for every image of a split.

In: logits and labels. Out: predicted classes, confidences, losses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from slipform.train.scores.calibration import cross_entropy

__all__ = ["Answers"]

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Answers:
    """The logits of the images of a split, in the order of the dataset.

    Attributes:
        logits: float32 [N, C].
        labels: int64 [N], 0..C - 1.
        indices: int64 [N], the position of each image in the split.
    """

    logits: npt.NDArray[np.float32]
    labels: _Ints
    indices: _Ints

    @cached_property
    def predicted(self) -> _Ints:
        """The most probable class of each image, int64 [N]."""
        return np.asarray(self.logits.argmax(1), np.int64)

    @cached_property
    def losses(self) -> _Floats:
        """The cross entropy of each image, float64 [N]."""
        return cross_entropy(self.logits, self.labels)

    def confidence(self, temperature: float = 1.0) -> _Floats:
        """The probability of the predicted class of each image, float64 [N].

        Args:
            temperature: The logits are divided by it.
        """
        return np.exp(-cross_entropy(self.logits, self.predicted, temperature))

    def log_probability(self, classes: Sequence[int] | slice | int) -> _Floats:
        """The logarithms of the probabilities of some classes, float64 [N, classes] or [N].

        They rank the images like the probabilities, also if all of those are rounded to 1.

        Args:
            classes: Positions of classes.
        """
        own = self.logits[:, classes].astype(np.float64)
        return own - (self._total if own.ndim == 1 else self._total[:, None])

    @cached_property
    def _total(self) -> _Floats:
        """The logarithm of the sum of exp(logits), float64 [N]."""
        top = self.logits[np.arange(len(self)), self.predicted].astype(np.float64)
        return top + cross_entropy(self.logits, self.predicted)

    @cached_property
    def confusion(self) -> npt.NDArray[Any]:
        """int64 [C, C]. Rows are true classes, columns are predicted classes."""
        classes = self.logits.shape[1]
        cells = np.bincount(self.labels * classes + self.predicted, minlength=classes**2)
        return cells.reshape(classes, classes)

    def __len__(self) -> int:
        """The number of images."""
        return len(self.labels)
