"""Counting right answers: `Totals` on the device while a split is evaluated, `Evaluation` when it
is done.

In: logits [N, C] and labels int64 [N], -100 for padding, which counts nowhere. Out: exact counts;
the host waits for the device once, in `result`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from slipform.pipelines.batch import IGNORED_LABEL


@dataclass(frozen=True)
class Evaluation:
    """How good a model is on a split; `evaluate` gives it.

    Attributes:
        loss: Mean cross entropy, whatever was minimized, so that runs can be compared.
        top1, top5: Shares of the images in 0..1 whose label is the most probable class, or among
            the five most probable.
        confusion: int64 [C, C] on the CPU: rows are true classes, columns predicted ones.

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
        return int(self.confusion.sum())

    @property
    def per_class(self) -> list[float]:
        """Share of each class' images that were right; nan for a class without images."""
        return (self.confusion.diagonal() / self.confusion.sum(1)).tolist()


@dataclass(frozen=True)
class Totals:
    """Running sums on the device: `confusion` int64 [C, C]; `sums` float64 [2]: loss, images with
    the label in the top five."""

    confusion: Tensor
    sums: Tensor

    @staticmethod
    def zeros(num_classes: int, device: torch.device) -> Totals:
        return Totals(
            torch.zeros(num_classes, num_classes, dtype=torch.int64, device=device),
            torch.zeros(2, dtype=torch.float64, device=device),
        )

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Counts one batch; no wait for the device."""
        logits = logits.float()
        counts = labels != IGNORED_LABEL
        true = labels.clamp(min=0)
        cell = true * len(self.confusion) + logits.argmax(1)
        self.confusion.view(-1).scatter_add_(0, cell, counts.long())
        top5 = (logits.topk(min(5, logits.shape[1]), dim=1).indices == true[:, None]).any(
            1
        ) & counts
        loss = F.cross_entropy(logits, labels, ignore_index=IGNORED_LABEL, reduction="sum")
        self.sums.add_(torch.stack((loss.double(), top5.sum().double())))

    def result(self) -> Evaluation:
        """Waits for the device. A split without images gives nan."""
        confusion = self.confusion.cpu()
        num = int(confusion.sum())
        loss, top5 = self.sums.tolist()
        if num == 0:
            return Evaluation(float("nan"), float("nan"), float("nan"), confusion)
        return Evaluation(loss / num, int(confusion.diagonal().sum()) / num, top5 / num, confusion)
