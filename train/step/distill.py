"""The loss of a student: the difference between its answers and the stored ones of a teacher.

In: logits and the numbers of the samples of a batch, and a table of answers on the device. Out: the
loss, on the device; nothing here waits for it.

Sources: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015; the stored
part of an answer and the equal shares of the rest: Shen and Xing, "A Fast Knowledge Distillation
Framework for Visual Recognition", ECCV 2022.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from slipform.pipelines.batch import Batch, counted
from slipform.pipelines.upload import upload

__all__ = ["Answers", "Distillation", "divergence", "shortened"]


@dataclass(frozen=True)
class Answers:
    """Answers of a teacher, shortened to the most probable classes.

    Attributes:
        values: float16 [N, top + 1]: the logarithms of the probabilities of these classes, then the
            logarithm of the mean probability of the other classes; without that column if there are
            no others. NaN: the sample has no answer.
        classes: uint8, int16 or int32 [N, top]: these classes.
    """

    values: Tensor
    classes: Tensor

    @staticmethod
    def empty(num_samples: int, num_classes: int, top: int, device: torch.device) -> Answers:
        """Answers for no sample yet.

        Args:
            num_samples: The number N of samples.
            num_classes: The number of classes.
            top: The number of classes to keep; no more than there are.
            device: The device of the tensors.
        """
        top = min(top, num_classes)
        sizes = ((torch.uint8, 256), (torch.int16, 1 << 15), (torch.int32, 1 << 31))
        dtype = next(dtype for dtype, most in sizes if num_classes <= most)
        width = top + (top < num_classes)
        values = torch.full((num_samples, width), torch.nan, dtype=torch.float16, device=device)
        return Answers(values, torch.zeros(num_samples, top, dtype=dtype, device=device))

    def put(self, samples: Tensor, logits: Tensor) -> None:
        """Store the answers for the samples of a batch.

        Args:
            samples: int64 [B], the samples, on the device.
            logits: [B, C], on the device.
        """
        values, classes = shortened(logits, self.classes.shape[1])
        self.values[samples] = values
        self.classes[samples] = classes.to(self.classes.dtype)

    @property
    def num_bytes(self) -> int:
        """The size of the table."""
        return self.values.nbytes + self.classes.nbytes


def shortened(logits: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """The most probable classes of answers.

    Args:
        logits: [B, C].
        top: The number of classes, 1 to C.

    Returns:
        values float16 [B, top + 1], or [B, top] if `top` is C, and classes int64 [B, top]; see
        `Answers`.
    """
    logs = logits.float().log_softmax(1)
    values, classes = logs.topk(top)
    others = logs.shape[1] - top
    if others:
        rest = logs.scatter(1, classes, -torch.inf).logsumexp(1, keepdim=True)
        values = torch.cat([values, rest - torch.tensor(float(others)).log()], 1)
    # The smallest number of float16 instead of -inf, which has no gradient of use.
    return values.clamp(min=torch.finfo(torch.float16).min).half(), classes


def divergence(logits: Tensor, answers: Answers, temperature: float) -> Tensor:
    """The Kullback-Leibler divergence of the student's probabilities from the teacher's.

    Args:
        logits: float32 [B, C], of the student.
        answers: Of the same B samples.
        temperature: Divides the logits of both.

    Returns:
        float32 [B], temperature ** 2 * KL(teacher || student).
    """
    values, classes = answers.values.float() / temperature, answers.classes.long()
    top, others = classes.shape[1], logits.shape[1] - classes.shape[1]
    student = F.log_softmax(logits / temperature, 1)
    kept = student.gather(1, classes)
    if others:
        count = torch.full_like(values[:, :1], float(others)).log()
        values = torch.cat([values[:, :top], values[:, top:] + count], 1)
        teacher = values.log_softmax(1)
        mean = (student.sum(1, keepdim=True) - kept.sum(1, keepdim=True)) / others
        kept = torch.cat([kept, mean + count], 1)
    else:
        teacher = values.log_softmax(1)
    return temperature**2 * (teacher.exp() * (teacher - kept)).sum(1)


class Distillation:
    """The answers of an epoch on the device, and the loss with them.

    Args:
        answers: A table for all samples, on the device. Its content may be replaced in place.
        share: The share of the teacher in the loss, 0..1.
        temperature: See `divergence`.
    """

    def __init__(self, answers: Answers, share: float, temperature: float) -> None:
        self.answers, self._share, self._temperature = answers, share, temperature

    def mixed(self, loss: Tensor, logits: Tensor, batch: Batch) -> Tensor:
        """The loss of the labels and that of the teacher's answers, by their shares.

        Args:
            loss: The loss of the labels, a scalar.
            logits: [B, C].
            batch: The batch of the logits. Samples with the label -100 do not count.

        Returns:
            A float32 scalar.
        """
        samples = upload(batch.indices, logits.device)
        answers = Answers(self.answers.values[samples], self.answers.classes[samples])
        losses = divergence(logits.float(), answers, self._temperature)
        counts = counted(batch.labels)
        mean = torch.where(counts, losses, 0.0).sum() / counts.sum().clamp(min=1)
        return (1 - self._share) * loss + self._share * mean
