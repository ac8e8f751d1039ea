"""Loss, margin and correctness of every training image, kept on the device: `Observations`.

In: the logits and labels of training batches. Out: a code of two bytes for each sample of the
epoch; see `slipform.train.scores.observations`. The host does not wait.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from slipform.pipelines.batch import Batch, counted
from slipform.pipelines.upload import upload
from slipform.train.scores.observations import (
    LOSS_SCALE,
    MARGIN_SCALE,
    MARGIN_STEPS,
    MAX_LOSS,
    MAX_MARGIN,
    UNSEEN,
)

__all__ = ["Observations", "encode"]

_TOGETHER = 2048  # images that are encoded together: fewer and larger kernels
_LOSS_STEPS = 254 / math.asinh(LOSS_SCALE * MAX_LOSS)
_MARGIN_STEPS = MARGIN_STEPS / math.asinh(MARGIN_SCALE * MAX_MARGIN)


def encode(logits: Tensor, labels: Tensor) -> Tensor:
    """Encode the answers of a net for some images.

    The loss is the cross entropy, also in runs that minimize another loss. The margin is the logit
    of the true class minus the largest other one (Pleiss et al., 2020).

    Args:
        logits: [N, C], any float dtype; C is 2 or more.
        labels: int64 [N]; or shares of classes, float32 [N, C]: the class with the largest share
            is the true one. Values of samples that do not count may be any.

    Returns:
        int16 [N], see `Codes`. Logits that are not finite give the largest loss.
    """
    logits = logits.float()
    true = (labels.clamp(min=0) if labels.ndim == 1 else labels.argmax(1))[:, None]
    own = logits.gather(1, true)[:, 0]
    rest = logits.scatter(1, true, -math.inf).amax(1)
    loss = (logits.logsumexp(1) - own).nan_to_num(nan=MAX_LOSS).clamp(0, MAX_LOSS)
    margin = (own - rest).nan_to_num(nan=-MAX_MARGIN).clamp(-MAX_MARGIN, MAX_MARGIN)
    # Among equal logits argmax decides, as for the accuracy: the sign of the margin agrees with it.
    right = logits.argmax(1) == true[:, 0]
    upper = (torch.asinh(loss * LOSS_SCALE) * _LOSS_STEPS).round() - 127
    steps = (torch.asinh(margin * MARGIN_SCALE) * _MARGIN_STEPS).round()
    lower = torch.where(right, steps.clamp(min=0), steps.clamp(max=-1)) + 128
    return (upper * 256 + lower).to(torch.int16)


class Observations:
    """The codes of the samples in the present epoch.

    A sample that is seen several times in an epoch, because samples are drawn, keeps the code with
    the highest loss. With MixUp and CutMix a sample counts where its own label has more than half
    of the weight. The order of the batches and the number of processes have no influence.

    Args:
        num_samples: The number of training samples.
        device: The device of the logits.

    Attributes:
        codes: int16 [num_samples + 1], on the device. The last one takes what does not count. The
            tensor stays the same: CUDA graphs may write to it.
    """

    def __init__(self, num_samples: int, device: torch.device) -> None:
        self.codes = torch.full((num_samples + 1,), UNSEEN, dtype=torch.int16, device=device)
        self._device = device
        self._kept: list[tuple[Tensor, Batch]] = []
        self._waiting = 0  # images in `_kept`

    def keep(self, logits: Tensor, batch: Batch) -> None:
        """Note a batch, to encode it later together with others.

        Args:
            logits: [N, C], without a gradient.
            batch: The batch; its `indices` are on the CPU. Its images are not kept.
        """
        # A CUDA graph of the net overwrites its logits in the next step.
        logits = logits.clone() if logits.is_cuda else logits
        self._kept.append((logits, Batch(logits, batch.labels, batch.indices, batch.mix)))
        self._waiting += len(batch)
        if self._waiting >= _TOGETHER:
            self._encode_kept()

    def add(self, logits: Tensor, batch: Batch) -> None:
        """Encode a batch now. Its work can be recorded in a CUDA graph.

        Args:
            logits: [N, C], without a gradient.
            batch: The batch; its `indices` are on the device of the logits.
        """
        weight = None if batch.mix is None else batch.mix.weight
        self._add(logits, batch.labels, batch.indices, weight)

    def state(self) -> npt.NDArray[np.int16]:
        """The codes of all samples, int16 [num_samples], on the host. Waits for the device."""
        self._encode_kept()
        return np.array(self.codes[:-1].cpu().numpy())

    def load(self, codes: npt.NDArray[np.int16]) -> None:
        """Continue from codes.

        Args:
            codes: The result of `state`, for as many samples.
        """
        self._forget_kept()
        self.codes[:-1].copy_(torch.from_numpy(codes))

    def clear(self) -> None:
        """Begin an epoch: no sample was seen."""
        self._forget_kept()
        self.codes.fill_(UNSEEN)

    def _encode_kept(self) -> None:
        if not self._kept:
            return
        logits = torch.cat([logits for logits, _ in self._kept])
        batches = [batch for _, batch in self._kept]
        indices = upload(torch.cat([batch.indices for batch in batches]), self._device)
        labels = torch.cat([batch.labels for batch in batches])
        weight = None
        if any(batch.mix is not None for batch in batches):
            weight = torch.cat([_weight(batch) for batch in batches])
        self._add(logits, labels, indices, weight)
        self._forget_kept()

    def _forget_kept(self) -> None:
        self._kept.clear()
        self._waiting = 0

    @torch.no_grad()
    def _add(self, logits: Tensor, labels: Tensor, indices: Tensor, weight: Tensor | None) -> None:
        counts = counted(labels) & (indices >= 0)
        if weight is not None:
            counts &= weight > 0.5
        places = torch.where(counts, indices, len(self.codes) - 1)
        self.codes.scatter_reduce_(0, places, encode(logits, labels), "amax")


def _weight(batch: Batch) -> Tensor:
    """The weight of the samples' own labels, float32 [N]."""
    if batch.mix is None:
        return torch.ones(len(batch), device=batch.labels.device)
    return batch.mix.weight
