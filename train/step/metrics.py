"""Loss and accuracy of a split: `Totals` on the device, and the `Evaluation` from them.

In: logits [N, C] and labels int64 [N], or shares of classes [N, C]; -100 is padding and is not
counted. Out: exact counts. The host waits for the device once, in `Totals.result`. Several labels
for each image: `label_metrics`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from slipform.pipelines.batch import IGNORED_LABEL, counted

__all__ = ["Evaluation", "Totals", "hits"]


def hits(logits: Tensor, labels: Tensor) -> Tensor:
    """The number of images whose most probable class is right, without waiting for the device.

    Args:
        logits: [N, C], any float dtype.
        labels: int64 [N] or float32 [N, C]. With several labels, any of them is right. With shares
            of classes, the class with the largest share is right.

    Returns:
        An int64 scalar.
    """
    guess = logits.argmax(1)
    if labels.ndim == 1:
        return (guess == labels).sum()
    best = labels.amax(1)
    return ((labels.gather(1, guess[:, None])[:, 0] == best) & (best > 0)).sum()


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
    def headline(self) -> float:
        """The figure that selects the best epoch: `top1`."""
        return self.top1

    @property
    def best_thresholds(self) -> tuple[float, ...]:
        """Empty: a class is chosen by comparison with the others."""
        return ()

    @property
    def values(self) -> dict[str, float]:
        """Further figures for the records, by name."""
        return {"top5": self.top5}

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

    @property
    def tensors(self) -> list[Tensor]:
        """What the processes add up."""
        return [self.confusion, self.sums]

    def add(self, logits: Tensor, labels: Tensor, indices: Tensor | None = None) -> None:
        """Count one batch, without waiting for the device.

        Args:
            logits: [N, C], any float dtype.
            labels: int64 [N], or shares of classes, float32 [N, C], on the same device. The class
                with the largest share then is the true one.
            indices: Not needed here.
        """
        logits = logits.float()
        counts = counted(labels)
        true = labels.clamp(min=0) if labels.ndim == 1 else labels.argmax(1)
        cell = true * len(self.confusion) + logits.argmax(1)
        self.confusion.view(-1).scatter_add_(0, cell, counts.long())
        best = logits.topk(min(5, logits.shape[1]), dim=1).indices
        top5 = (best == true[:, None]).any(1) & counts
        labels = labels if labels.ndim == 1 else labels.clamp(min=0)  # rows of 0 have no loss
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
