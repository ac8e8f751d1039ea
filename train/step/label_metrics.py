"""Loss, mAP, AUROC and F1 on a split whose images have several labels.

In: logits [N, C] and targets float32 [N, C]; rows of -100 are not counted. Out: `LabelEvaluation`.
`LabelTotals` keeps the logits of the whole split on the device (5 bytes for each image and class).
The functions of the scores are those of `train.scores`, which the command `validate` uses, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from slipform.pipelines.batch import counted
from slipform.pipelines.upload import upload
from slipform.train.scores.counts import ClassScores, class_scores, macro
from slipform.train.scores.ranking import auroc, average_precision
from slipform.train.scores.thresholds import DEFAULT, best_thresholds

__all__ = ["LabelEvaluation", "LabelTotals"]

_Floats = npt.NDArray[np.float64]
_Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class LabelEvaluation:
    """The scores of a model on images with several labels; `evaluate` returns it.

    Attributes:
        loss: The mean binary cross entropy over images and classes, also for runs that minimize
            another loss.
        probabilities: float64 [N, C], of the images that could be read.
        positive: bool [N, C], their labels.
        thresholds: float64 [C]: an image has a label if its probability is at least this one.
        average_precision: float64 [C]; nan for a class without images.
        auroc: float64 [C]; nan for a class that no image has, or that all images have.
        scores: Precision, recall and F1 of each class at the thresholds.

    Example:
        ```python
        import numpy as np

        import slipform as sf

        shares = np.array([[0.9, 0.2], [0.6, 0.7], [0.1, 0.8]])
        result = sf.LabelEvaluation.of(0.3, shares, shares > 0.5)  # as from sf.evaluate
        assert result.mean_average_precision == result.macro_f1 == 1
        ```
    """

    loss: float
    probabilities: _Floats
    positive: _Bools
    thresholds: _Floats
    average_precision: _Floats
    auroc: _Floats
    scores: ClassScores

    @staticmethod
    def of(
        loss: float,
        probabilities: _Floats,
        positive: _Bools,
        thresholds: Sequence[float] = (),
    ) -> LabelEvaluation:
        """Compute all scores.

        Args:
            loss: The mean binary cross entropy.
            probabilities: float64 [N, C].
            positive: bool [N, C].
            thresholds: C thresholds. Empty: 0.5 for all classes.
        """
        classes = probabilities.shape[1]
        limits = np.array(thresholds if len(thresholds) else [DEFAULT] * classes, np.float64)
        chosen = probabilities >= limits
        counts = (chosen & positive).sum(0), positive.sum(0), chosen.sum(0)
        return LabelEvaluation(
            loss,
            probabilities,
            positive,
            limits,
            average_precision(probabilities, positive),
            auroc(probabilities, positive),
            class_scores(*counts),
        )

    @property
    def num_images(self) -> int:
        """The number of images."""
        return len(self.positive)

    @property
    def mean_average_precision(self) -> float:
        """The mean over the classes that have images, 0..1."""
        return float(macro(self.average_precision))

    @property
    def macro_f1(self) -> float:
        """The mean F1 over the classes that have images, at the thresholds, 0..1."""
        return float(macro(self.scores.f1))

    @property
    def headline(self) -> float:
        """The figure that selects the best epoch: mAP."""
        return self.mean_average_precision

    @property
    def values(self) -> dict[str, float]:
        """Further figures for the records, by name: f1 and auroc, means over the classes."""
        return {"f1": self.macro_f1, "auroc": float(macro(self.auroc))}

    @property
    def per_class(self) -> list[float]:
        """The average precision of each class, 0..1; nan for a class without images."""
        return [float(value) for value in self.average_precision]

    @property
    def best_thresholds(self) -> tuple[float, ...]:
        """The threshold of each class with the highest F1 on these images."""
        return tuple(best_thresholds(self.probabilities, self.positive).tolist())


class LabelTotals:
    """The logits and labels of a split on the device, in the order of the split.

    Args:
        num_samples: N, over all processes.
        num_classes: C, the number of logits.
        device: The device.
        thresholds: C thresholds for F1. Empty: 0.5 for all classes.
    """

    def __init__(
        self,
        num_samples: int,
        num_classes: int,
        device: torch.device,
        thresholds: Sequence[float] = (),
    ) -> None:
        self._thresholds = tuple(thresholds)
        self._logits = torch.zeros(num_samples, num_classes, device=device)
        self._positive = torch.zeros(num_samples, num_classes, dtype=torch.uint8, device=device)
        self._seen = torch.zeros(num_samples, dtype=torch.uint8, device=device)

    @property
    def tensors(self) -> list[Tensor]:
        """The values to be summed over processes: each has only the rows of its own images."""
        return [self._logits, self._positive, self._seen]

    def add(self, logits: Tensor, labels: Tensor, indices: Tensor) -> None:
        """Keep one batch, without waiting for the device.

        Args:
            logits: [N, C], any float dtype.
            labels: float32 [N, C], on the same device.
            indices: int64 [N] on the CPU, positions in the split; -1 is padding.
        """
        own = upload(indices.clamp(min=0), logits.device)
        counts = counted(labels)
        # Padding adds 0 to the first image: no image is written twice.
        self._logits.index_add_(0, own, torch.where(counts[:, None], logits.float(), 0.0))
        positive = ((labels > 0) & counts[:, None]).to(torch.uint8)
        self._positive.index_add_(0, own, positive)
        self._seen.index_add_(0, own, counts.to(torch.uint8))

    def result(self) -> LabelEvaluation:
        """Wait for the device, and return the scores of all images."""
        there = self._seen > 0
        logits, positive = self._logits[there].cpu(), self._positive[there].cpu() > 0
        loss = F.binary_cross_entropy_with_logits(logits.double(), positive.double())
        shares = logits.double().sigmoid().numpy()
        return LabelEvaluation.of(float(loss), shares, positive.numpy(), self._thresholds)
