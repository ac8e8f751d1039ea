"""Loss and accuracy of a split: `Totals` on the device, and the `Evaluation` from them.

In: logits [N, C] and labels int64 [N]; -100 is padding and is not counted. Out: exact counts. The
host waits for the device once, in `Totals.result`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from slipform.pipelines.batch import IGNORED_LABEL

__all__ = ["Evaluation", "Totals"]


@dataclass(frozen=True)
class Evaluation:
    """Loss and accuracy of a model on a split; `evaluate` returns it.

    Attributes:
        loss: The mean cross entropy, also for runs that minimize another loss.
        top1: The share of the images, 0..1, whose label is the most probable class.
        top5: The share of the images, 0..1, whose label is among the five most probable classes.
        confusion: int64 [C, C] on the CPU. Rows are true classes, columns are predicted classes.

    Example:
        ```python
        import slipform as sf

        result = sf.evaluate("runs/first", split="val")
        assert 0 <= result.top1 <= result.top5 <= 1
        assert result.confusion.sum() == result.num_images
        ```
    """

    loss: float
    top1: float
    top5: float
    confusion: Tensor

    @property
    def num_images(self) -> int:
        """The number of images."""
        return int(self.confusion.sum())

    @property
    def per_class(self) -> list[float]:
        """The accuracy on each class, 0..1; nan for a class without images."""
        return (self.confusion.diagonal() / self.confusion.sum(1)).tolist()


@dataclass(frozen=True)
class Totals:
    """Running sums on the device.

    Attributes:
        confusion: int64 [C, C]. Rows are true classes, columns are predicted classes.
        sums: float64 [2]: the sum of the losses, and the number of images whose label is among the
            five most probable classes.
    """

    confusion: Tensor
    sums: Tensor

    @staticmethod
    def zeros(num_classes: int, device: torch.device) -> Totals:
        """New totals of 0.

        Args:
            num_classes: C, the number of logits.
            device: The device of the sums.
        """
        return Totals(
            torch.zeros(num_classes, num_classes, dtype=torch.int64, device=device),
            torch.zeros(2, dtype=torch.float64, device=device),
        )

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Count one batch, without waiting for the device.

        Args:
            logits: [N, C], any float dtype.
            labels: int64 [N], on the same device.
        """
        logits = logits.float()
        counts = labels != IGNORED_LABEL
        true = labels.clamp(min=0)
        cell = true * len(self.confusion) + logits.argmax(1)
        self.confusion.view(-1).scatter_add_(0, cell, counts.long())
        best = logits.topk(min(5, logits.shape[1]), dim=1).indices
        top5 = (best == true[:, None]).any(1) & counts
        loss = F.cross_entropy(logits, labels, ignore_index=IGNORED_LABEL, reduction="sum")
        self.sums.add_(torch.stack((loss.double(), top5.sum().double())))

    def result(self) -> Evaluation:
        """Wait for the device, and return the means over all images; nan where there are none."""
        confusion = self.confusion.cpu()
        num = int(confusion.sum())
        loss, top5 = self.sums.tolist()
        if num == 0:
            return Evaluation(float("nan"), float("nan"), float("nan"), confusion)
        return Evaluation(loss / num, int(confusion.diagonal().sum()) / num, top5 / num, confusion)
