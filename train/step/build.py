"""Build a `TrainState` from a configuration.

In: a RunConfig, the number of classes, this process. Out: the model, the optimizers, the loss and
the functions of a step. `bench` uses the same state.
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
from slipform.pipelines.batch import SyntheticLoader
from slipform.pipelines.errors import ConfigError
from slipform.train.config.image_sizes import all_sizes, size_at, training_sizes
from slipform.train.config.run_config import RunConfig
from slipform.train.machine.deterministic import check_deterministic
from slipform.train.machine.device import pick_compile, pick_precision
from slipform.train.machine.distributed import Process
from slipform.train.step.class_weights import Labels
from slipform.train.step.data import batch_sizes
from slipform.train.step.loss import LossFunction, make_loss
from slipform.train.step.optim import make_optimizers
from slipform.train.step.state import Forward, StepFunctions, TrainState, averaged_copy
from slipform.train.step.step import zero_gradients
from slipform.train.step.sync_batch_norm import synchronize

__all__ = ["build_state", "freeze_late", "make_functions", "unfreeze"]

# torch 2.15 renames the argument, and warns where the old name is used.
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
    labels: Labels | None = None,
) -> TrainState:
    """Build the state before the first step.

    Args:
        config: The configuration of the run.
        num_classes: The number of logits.
        process: This process; every process calls this function.
        first_images: Returns normalized training images, float [N, 3, S, S], for nets that
            initialize weights from images (FastNet's whitening). Default: those weights are random.
        on_load: Called with the report of the loaded weights. Default: the report is logged.
        labels: The labels of the training images, for weights of classes in the loss. None: the
            loss must not have weights; see `RunConfig.unweighted`.

    Raises:
        ConfigError: The loss does not fit the labels, or needs them; the net cannot be built, none
            of its parameters would learn, or BatchNorm would get one value for each channel.
    """
    loss = make_loss(config.loss, labels, process.device)
    torch.manual_seed(config.train.seed)  # the same first weights on every process
    model = registry.build(
        config.model, num_classes=num_classes, image_size=config.augment.image_size, on_load=on_load
    )
    for size in all_sizes(config):
        if size != config.augment.image_size:
            probe.check_size(model, config.model.name, size)
        if config.train.deterministic and process.device.type == "cuda":
            check_deterministic(model, size)
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
            "model.freeze freezes all layers: freeze fewer, or set train.unfreeze_at_epoch"
        )
    _check_batch_norm(config, model, process)
    # Dropout draws other numbers on every process.
    torch.manual_seed(config.train.seed + 1 + process.rank)
    if process.world_size > 1 and config.train.sync_batch_norm:
        synchronize(model, batch_sizes(config, process))
    ema = averaged_copy(model) if config.train.ema else None
    precision = pick_precision(config.train.precision, process.device)
    scaler = torch.amp.GradScaler(process.device.type, enabled=precision is torch.float16)
    functions = make_functions(config, model, ema or model, process, loss)
    return TrainState(model, make_optimizers(config.optimizer, model), scaler, functions, ema)


def _check_batch_norm(config: RunConfig, model: nn.Module, process: Process) -> None:
    """Raise ConfigError where BatchNorm would get one value for each channel."""
    if process.world_size > 1 and config.train.sync_batch_norm:
        return
    if config.train.batch_size == "auto" or min(batch_sizes(config, process)) > 1:
        return
    if config.train.unfreeze_at_epoch:
        model.train()  # frozen BatchNorm learns later
    probe.check_batch_of_one(model, min(training_sizes(config)))
    freeze.set_train_mode(model, config.model.frozen_norm)


def make_functions(
    config: RunConfig,
    model: nn.Module,
    evaluated: nn.Module,
    process: Process,
    loss: LossFunction,
) -> StepFunctions:
    """Make the functions of a run's steps: wrap the model by DDP, and compile it.

    DDP and the compiler read requires_grad once. Make the functions again when it changes.

    Args:
        config: The configuration of the run.
        model: The plain net that learns.
        evaluated: The plain net that is validated: the one with averaged weights, or `model`.
        process: This process.
        loss: The loss; see `make_loss`.
    """
    wrapped: nn.Module = model
    weight = 1.0
    if process.world_size > 1:
        sizes = batch_sizes(config, process)
        weight = sizes[process.rank] * len(sizes) / sum(sizes)
        devices = [process.device] if process.device.type == "cuda" else None
        # With sync_batch_norm every process computes the same statistics: DDP need not copy them.
        shared = config.train.sync_batch_norm
        wrapped = DistributedDataParallel(
            model,
            device_ids=devices,
            gradient_as_bucket_view=True,
            **{_SYNC_BUFFERS: not shared},  # type: ignore[arg-type]
        )
    forward: Forward = wrapped
    evaluate: Forward = evaluated
    whole = config.train.steps_per_launch > 1 and process.device.type == "cuda"
    # Graphs of the net alone cannot be part of a graph of the whole step.
    choice = "on" if whole and config.train.compile == "graphs" else config.train.compile
    mode = pick_compile(choice, process.device, config.train.accumulate)
    if mode:
        # The shapes of an epoch never change. Each size of images is compiled once for training and
        # once for evaluation. torch compiles no new size after `recompile_limit` of them.
        torch._dynamo.config.recompile_limit = max(
            torch._dynamo.config.recompile_limit, 4 * len(all_sizes(config)) + 4
        )
        # DDP wraps the model before compilation, so that the exchange of
        # gradients overlaps with the compiled backward pass.
        forward = torch.compile(wrapped, dynamic=False, mode=mode)
        evaluate = (
            forward if wrapped is evaluated else torch.compile(evaluated, dynamic=False, mode=mode)
        )
    if config.train.channels_last is False:
        forward, evaluate = _channels_first(forward), _channels_first(evaluate)
    return StepFunctions(
        forward=forward,
        evaluate=evaluate,
        loss=loss,
        precision=pick_precision(config.train.precision, process.device),
        device=process.device,
        clip_norm=config.train.clip_norm,
        ema_decay=config.train.ema,
        flip_test=config.train.flip_test,
        shift_test=config.train.shift_test,
        frozen_norm=config.model.frozen_norm,
        compiled=mode is not None,
        weight=weight,
        **({"no_sync": wrapped.no_sync} if isinstance(wrapped, DistributedDataParallel) else {}),
    )


def _channels_first(forward: Forward) -> Forward:
    """Loaders give images with the channels last: convolutions would keep that format."""
    return lambda images: forward(images.contiguous())


def unfreeze(config: RunConfig, state: TrainState, process: Process) -> None:
    """Unfreeze all layers during a run.

    Args:
        config: The configuration of the run.
        state: Its model and its functions are changed in place.
        process: This process; every process calls this function.
    """
    freeze.unfreeze(state.model)
    torch.compiler.reset()
    _make_again(config, state, process)


def freeze_late(config: RunConfig, state: TrainState, process: Process) -> None:
    """Freeze the layers of train.freeze_late during a run.

    A compiled net is compiled again in this call, on random images, so that no step waits for it.

    Args:
        config: The configuration of the run.
        state: Its model and its functions are changed in place.
        process: This process; every process calls this function.
    """
    freeze.freeze(state.model, config.train.freeze_late)
    zero_gradients(state)
    _make_again(config, state, process)
    if not state.functions.compiled:
        return
    size = size_at(config, state.epoch + 1)
    buffers = [b.clone() for b in state.model.buffers()]
    batch = SyntheticLoader(
        batch_size=batch_sizes(config, process)[process.rank],
        image_size=size,
        num_classes=1,
        num_batches=1,
        device=process.device,
        dtype=state.functions.precision,
    ).batch
    devices = [process.device] if process.device.type == "cuda" else []
    with torch.random.fork_rng(devices), state.functions.autocast():
        logits = state.functions.forward(batch.images)
        loss = state.functions.loss(logits, batch.labels, None)
    state.scaler.scale(loss).backward()
    zero_gradients(state)
    for buffer, kept in zip(state.model.buffers(), buffers, strict=True):
        buffer.copy_(kept)


def _make_again(config: RunConfig, state: TrainState, process: Process) -> None:
    """Make the functions of a state, after other layers than before learn."""
    freeze.set_train_mode(state.model, config.model.frozen_norm)
    state.functions = replace(state.functions, forward=state.model, no_sync=nullcontext)
    gc.collect()  # frees the old DDP, which has hooks on the gradients
    functions = make_functions(config, state.model, state.evaluated, process, state.functions.loss)
    state.functions = functions
