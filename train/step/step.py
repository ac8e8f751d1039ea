"""One step of training, `train_step(state, batches, count)`, or of evaluation, `eval_step`.

In: a TrainState and batches on its device. Out: tensors on the device. No function here waits for
the device. The host waits only when the loop reads numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slipform.models import freeze
from slipform.pipelines.batch import Batch
from slipform.train.step.label_metrics import LabelTotals
from slipform.train.step.metrics import Totals, hits
from slipform.train.step.state import Averages, StepFunctions, TrainState

__all__ = [
    "Launched",
    "StepResult",
    "ema_decay",
    "eval_step",
    "mean_logits",
    "predict_logits",
    "set_train_mode",
    "train_step",
    "zero_gradients",
]


@dataclass(frozen=True)
class StepResult:
    """The results of a step on this process, with the weights before the update.

    Attributes:
        loss: The mean loss over the batches of the step, times the weight of this process: a
            detached float32 scalar on the device.
        correct: The number of images that were classified correctly, see `hits`: an int64 scalar on
            the device.
        num_images: The number of images in the step.
        images: The images of the last batch, [N, 3, S, S]; valid until the next batch is requested.
    """

    loss: Tensor
    correct: Tensor
    num_images: int
    images: Tensor


@dataclass(frozen=True)
class Launched:
    """The results of the steps in a launch, each with the weights before its update.

    Attributes:
        losses: The mean loss of each step, float32 [n] on the device.
        correct: The number of images classified correctly in each step, int64 [n] on the device.
        images: The images of the last batch, [N, 3, S, S]; valid until the next launch.
    """

    losses: Tensor
    correct: Tensor
    images: Tensor


def train_step(
    state: TrainState,
    batches: Iterator[Batch],
    count: int = 1,
    decay: float | Tensor | None = None,
    observe: Callable[[Tensor, Batch], None] | None = None,
) -> StepResult:
    """Run forward and backward for the next `count` batches, then one step of the optimizers.

    The gradient is that of the mean loss over the batches; all batches of a process have the same
    size, and `StepFunctions.weight` corrects for other sizes on other processes.
    Processes exchange gradients with the last batch only. The gradients exist until the next step
    or `zero_gradients`.

    Args:
        state: Changed in place: weights, averaged weights, momenta, scale, step.
        batches: An iterator with at least `count` batches left.
        count: Batches of the step: train.accumulate, or fewer at the end of an epoch.
        decay: The decay of the averaged weights, a number or a scalar tensor on the device.
            Default: `ema_decay`.
        observe: Called with the logits [N, C] and the batch of each forward pass, without waiting
            for the device. Default: nothing is called.
    """
    zero_gradients(state)
    functions = state.functions
    losses: list[Tensor] = []
    correct: list[Tensor] = []
    num_images, share = 0, 1 / count
    for left in range(count - 1, -1, -1):
        batch = next(batches)
        with functions.no_sync() if left else nullcontext():
            with functions.autocast():
                logits = functions.forward(batch.images)
            loss = functions.loss(logits, batch.labels, batch.mix)
            if state.teacher is not None:
                loss = state.teacher.mixed(loss, logits, batch)
            if functions.weight != 1:
                loss = loss * functions.weight
            state.scaler.scale(loss * share).backward()
        losses.append(loss.detach())
        correct.append(hits(logits.detach(), batch.labels))
        if observe is not None:
            observe(logits.detach(), batch)
        num_images += len(batch)
    _update(state, decay)
    if count == 1:
        return StepResult(losses[0], correct[0], num_images, batch.images)
    return StepResult(
        torch.stack(losses).mean(), torch.stack(correct).sum(), num_images, batch.images
    )


def _update(state: TrainState, decay: float | Tensor | None) -> None:
    for optimizer in state.optimizers:
        if state.functions.clip_norm:
            state.scaler.unscale_(optimizer)
    if state.functions.clip_norm:
        nn.utils.clip_grad_norm_(state.model.parameters(), state.functions.clip_norm)
    for optimizer in state.optimizers:
        state.scaler.step(optimizer)
    state.scaler.update()
    state.step += 1
    if state.ema is not None:
        if state.averages is None:
            state.averages = Averages(state.ema, state.model)
        _average(state.averages, ema_decay(state, state.step) if decay is None else decay)


def ema_decay(state: TrainState, step: int) -> float:
    """The decay of the averaged weights after a step.

    It rises over the first steps t, (1 + t) / (10 + t), as in TensorFlow's
    ExponentialMovingAverage. With a constant decay, the random first weights would stay in the
    average for 1 / (1 - decay) steps.

    Args:
        state: Its functions have the final decay.
        step: The step, counted from 1.
    """
    return min(state.functions.ema_decay, (1 + step) / (10 + step))


def set_train_mode(state: TrainState) -> None:
    """Set training mode, except for frozen BatchNorm with model.frozen_norm = "fixed".

    Args:
        state: Its model is changed in place; see `freeze.set_train_mode`.
    """
    freeze.set_train_mode(state.model, state.functions.frozen_norm)


def zero_gradients(state: TrainState) -> None:
    """Set the gradients to None, which frees their memory.

    Args:
        state: Its model is changed in place.
    """
    state.model.zero_grad(set_to_none=True)


@torch.no_grad()
def _average(averages: Averages, decay: float | Tensor) -> None:
    """ema = decay * ema + (1 - decay) * model, for all tensors of floats; integers are copied."""
    averaged, present = averages.floats
    if isinstance(decay, Tensor):  # torch._foreach_lerp_ does not accept a tensor here
        torch._foreach_mul_(averaged, decay)
        torch._foreach_add_(averaged, torch._foreach_mul(present, 1 - decay))
    else:
        torch._foreach_lerp_(averaged, present, 1 - decay)
    if averages.others[0]:
        torch._foreach_copy_(*averages.others)


@torch.inference_mode()
def eval_step(functions: StepFunctions, batch: Batch, totals: Totals | LabelTotals) -> None:
    """Add a batch to the totals. The model is in evaluation mode already.

    Args:
        functions: Used as by `predict_logits`.
        batch: A batch on the device.
        totals: Changed in place.
    """
    totals.add(predict_logits(functions, batch.images), batch.labels, batch.indices)


def predict_logits(functions: StepFunctions, images: Tensor) -> Tensor:
    """The logits of images; with flip_test and shift_test, the mean over several views of each.

    The views and their weights are those of Keller Jordan's airbench, 2024.

    Args:
        functions: Its `evaluate`, `precision`, `flip_test` and `shift_test` are used.
        images: [N, 3, S, S], on the device.

    Returns:
        float32 [N, C], on the device.
    """
    with functions.autocast():
        return mean_logits(functions, images)


def mean_logits(functions: StepFunctions, images: Tensor) -> Tensor:
    """Like `predict_logits`, without autocast, so that it can be exported.

    Args:
        functions: Its `evaluate`, `flip_test` and `shift_test` are used.
        images: [N, 3, S, S], on the device.

    Returns:
        float32 [N, C], on the device.
    """
    logits = _of_mirrored(functions, images)
    if functions.shift_test:
        moved = [_of_mirrored(functions, view) for view in _shifted(functions, images)]
        logits = (logits + (moved[0] + moved[1]) / 2) / 2
    return logits


def _of_mirrored(functions: StepFunctions, images: Tensor) -> Tensor:
    """The logits of images; with flip_test, the mean over each image and its mirror image."""
    # Copy the logits: with CUDA graphs the next call overwrites them.
    again = functions.flip_test or functions.shift_test > 0
    logits = functions.evaluate(images).to(torch.float32, copy=again)
    if functions.flip_test:
        logits = (logits + functions.evaluate(images.flip(3)).float()) / 2
    return logits


def _shifted(functions: StepFunctions, images: Tensor) -> Iterator[Tensor]:
    """Images moved to the upper left and to the lower right. The border is reflected."""
    pixels, size = functions.shift_test, images.shape[2]
    padded = F.pad(images, (pixels,) * 4, "reflect")
    for start in (2 * pixels, 0):
        view = padded[:, :, start : start + size, start : start + size]
        yield view.contiguous(memory_format=torch.channels_last)
