"""From a configuration to a `TrainState` ready for its first step.

In: a RunConfig, the number of classes, this process. Out: model, optimizers, loss and functions.
`bench` trains with the same state.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from slipform.models import freeze, probe, registry
from slipform.models.weights import LoadReport
from slipform.pipelines.errors import ConfigError
from slipform.train.config.run_config import RunConfig
from slipform.train.machine.deterministic import check_deterministic
from slipform.train.machine.device import pick_compile, pick_precision
from slipform.train.machine.distributed import Process
from slipform.train.step.loss import make_loss
from slipform.train.step.optim import make_optimizers
from slipform.train.step.state import Forward, StepFunctions, TrainState, averaged_copy
from slipform.train.step.sync_batch_norm import synchronize

__all__ = ["build_state", "make_functions", "unfreeze"]

# torch 2.15 renames the argument and warns of the old name.
_SYNC_BUFFERS = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in signature(DistributedDataParallel).parameters
)


def build_state(
    config: RunConfig,
    *,
    num_classes: int,
    process: Process,
    first_images: Callable[[], Tensor] | None = None,
    on_load: Callable[[LoadReport], object] | None = None,
) -> TrainState:
    """The state before the first step.

    Args:
        config: The run.
        num_classes: The number of logits.
        process: This process; every process calls this.
        first_images: Gives normalized training images [N, 3, S, S] for nets that start from images
            (FastNet's whitening). Default: their weights stay random.
        on_load: Called with the report of loaded weights. Default: it is logged.

    Raises:
        ConfigError: The net cannot be built, nothing of it would learn, or BatchNorm would see one
            value for each channel.
    """
    torch.manual_seed(config.train.seed)  # the same first weights on every process
    model = registry.build(
        config.model, num_classes=num_classes, image_size=config.augment.image_size, on_load=on_load
    )
    if config.train.deterministic and process.device.type == "cuda":
        check_deterministic(model, config.augment.image_size)
    model = model.to(process.device)
    if config.train.channels_last is not False:
        model = model.to(memory_format=torch.channels_last)
    init_from_images: Any = getattr(model, "init_from_images", None)
    if first_images and init_from_images:
        init_from_images(first_images())
    if (
        not any(parameter.requires_grad for parameter in model.parameters())
        and not config.train.unfreeze_at_epoch
    ):
        raise ConfigError(
            "model.freeze leaves nothing to train: freeze less, or set train.unfreeze_at_epoch"
        )
    _check_batch_norm(config, model, process)
    # Dropout takes other numbers on every process.
    torch.manual_seed(config.train.seed + 1 + process.rank)
    if process.world_size > 1 and config.train.sync_batch_norm:
        synchronize(model)
    ema = averaged_copy(model) if config.train.ema else None
    precision = pick_precision(config.train.precision, process.device)
    scaler = torch.amp.GradScaler(process.device.type, enabled=precision is torch.float16)
    functions = make_functions(config, model, ema or model, process)
    return TrainState(model, make_optimizers(config.optimizer, model), scaler, functions, ema)


def _check_batch_norm(config: RunConfig, model: nn.Module, process: Process) -> None:
    """Raises ConfigError where BatchNorm would see one value for each channel."""
    alone = process.world_size == 1 or not config.train.sync_batch_norm
    if config.train.batch_size != 1 or not alone:
        return
    if config.train.unfreeze_at_epoch:
        model.train()  # frozen BatchNorm learns later
    probe.check_batch_of_one(model, config.augment.image_size)
    freeze.set_train_mode(model, config.model.frozen_norm)


def make_functions(
    config: RunConfig, model: nn.Module, evaluated: nn.Module, process: Process
) -> StepFunctions:
    """The functions of a run's steps.

    DDP and the compiler look at which layers learn: the functions are made anew when that changes.

    Args:
        config: The run.
        model: The plain net that learns.
        evaluated: The plain net that is validated: the averaged one, or `model`.
        process: This process.
    """
    wrapped: nn.Module = model
    if process.world_size > 1:
        devices = [process.device] if process.device.type == "cuda" else None
        # Every process has then computed the same statistics of BatchNorm.
        shared = config.train.sync_batch_norm
        wrapped = DistributedDataParallel(
            model,
            device_ids=devices,
            gradient_as_bucket_view=True,
            **{_SYNC_BUFFERS: not shared},  # type: ignore[arg-type]
        )
    forward: Forward = wrapped
    evaluate: Forward = evaluated
    mode = pick_compile(config.train.compile, process.device, config.train.accumulate)
    if mode:
        # Shapes never change: nothing is dynamic. DDP is wrapped first, so that its gradient
        # exchange overlaps with the compiled backward pass.
        forward = torch.compile(wrapped, dynamic=False, mode=mode)
        evaluate = (
            forward if wrapped is evaluated else torch.compile(evaluated, dynamic=False, mode=mode)
        )
    if config.train.channels_last is False:
        forward, evaluate = _channels_first(forward), _channels_first(evaluate)
    return StepFunctions(
        forward=forward,
        evaluate=evaluate,
        loss=make_loss(config.loss),
        precision=pick_precision(config.train.precision, process.device),
        device=process.device,
        clip_norm=config.train.clip_norm,
        ema_decay=config.train.ema,
        flip_test=config.train.flip_test,
        frozen_norm=config.model.frozen_norm,
        compiled=mode is not None,
        **({"no_sync": wrapped.no_sync} if isinstance(wrapped, DistributedDataParallel) else {}),
    )


def _channels_first(forward: Forward) -> Forward:
    """Loaders give images with the channels last: convolutions would keep that format."""
    return lambda images: forward(images.contiguous())


def unfreeze(config: RunConfig, state: TrainState, process: Process) -> None:
    """Let every layer learn from here on.

    Args:
        config: The run.
        state: Changed in place: its model and its functions.
        process: This process.
    """
    freeze.unfreeze(state.model)
    freeze.set_train_mode(state.model, config.model.frozen_norm)
    torch.compiler.reset()
    state.functions = replace(state.functions, forward=state.model, no_sync=nullcontext)
    gc.collect()  # frees the old DDP, whose hooks are on the gradients
    state.functions = make_functions(config, state.model, state.evaluated, process)
