"""One step: `train_step(state, batch)` learns from a batch, `eval_step(functions, batch, totals)`
counts right answers on one.

In: a TrainState and a Batch on its device. Out: the loss and the number of right answers, as
tensors that nobody waits for: the host runs ahead of the device until the loop asks for numbers.
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from slipform.models import freeze
from slipform.pipelines.batch import Batch
from slipform.train.step.metrics import Totals
from slipform.train.step.state import StepFunctions, TrainState


def train_step(
    state: TrainState,
    batch: Batch,
    *,
    share: float = 1.0,
    update: bool = True,
    keep_gradients: bool = False,
) -> tuple[Tensor, Tensor]:
    """Forward, backward and, with `update`, one step of the optimizer. Returns (loss, right
    answers), detached scalars.

    Gradient accumulation: call it k times with share = 1 / k, `update` on the last one only; the
    gradient is then that of the mean over all k batches. keep_gradients leaves them in place after
    the update, for whoever looks at them.
    """
    functions = state.functions
    with nullcontext() if update else functions.no_sync():
        with functions.autocast():
            logits = functions.forward(batch.images)
        loss = functions.loss(logits, batch.labels, batch.mix)
        state.scaler.scale(loss * share).backward()
    if update:
        _update(state)
        if not keep_gradients:
            zero_gradients(state)
    return loss.detach(), (logits.detach().argmax(1) == batch.labels).sum()


def _update(state: TrainState) -> None:
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
        _average(
            state.ema,
            state.model,
            min(state.functions.ema_decay, (1 + state.step) / (10 + state.step)),
        )


def set_train_mode(state: TrainState) -> None:
    """Training mode, frozen BatchNorm excepted."""
    freeze.set_train_mode(state.model)


def zero_gradients(state: TrainState) -> None:
    """Sets them to None, which frees their memory for the next forward pass."""
    state.model.zero_grad(set_to_none=True)


@torch.no_grad()
def _average(ema: nn.Module, model: nn.Module, decay: float) -> None:
    """ema = decay * ema + (1 - decay) * model, for all tensors of the state that are not integers.

    The decay rises from 0.1 over the first steps, (1 + t) / (10 + t), as TensorFlow's
    ExponentialMovingAverage has it: else the random start would stay in the average for 1 / (1 -
    decay) steps.
    """
    pairs = list(zip(ema.state_dict().values(), model.state_dict().values(), strict=True))
    averages = [(a, b) for a, b in pairs if a.is_floating_point()]
    torch._foreach_lerp_([a for a, _ in averages], [b for _, b in averages], 1 - decay)
    for a, b in pairs:
        if not a.is_floating_point():  # BatchNorm's num_batches_tracked
            a.copy_(b)


@torch.inference_mode()
def eval_step(functions: StepFunctions, batch: Batch, totals: Totals) -> None:
    """Adds a batch to the totals. The caller has put the model into evaluation mode."""
    totals.add(predict_logits(functions, batch.images), batch.labels)


def predict_logits(functions: StepFunctions, images: Tensor) -> Tensor:
    """float32 [N, C]. With flip_test, the mean over each image and its mirror image."""
    with functions.autocast():
        logits = functions.evaluate(images).float()
        if functions.flip_test:
            logits = (logits + functions.evaluate(images.flip(3)).float()) / 2
    return logits
