"""The trained model of a run, ready for inference.

In: a run folder. Out: the net with the weights of the best epoch, and the functions of evaluation.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from slipform.models import registry
from slipform.pipelines.manifest import Manifest, read_manifest
from slipform.train.config.run_config import RunConfig
from slipform.train.machine.device import pick_precision
from slipform.train.run.best import copy_weights, read_best
from slipform.train.run.folder import run_config
from slipform.train.step.loss import make_loss
from slipform.train.step.state import StepFunctions

__all__ = ["Trained", "inference_functions", "load_trained"]


class Trained(NamedTuple):
    """What the folder of a run has about its best epoch.

    Attributes:
        model: The net, on the CPU.
        config: The settings of the run.
        manifest: The manifest in the run folder.
        thresholds: Several labels for each image: C thresholds. Empty if the run had no images for
            validation.
    """

    model: nn.Module
    config: RunConfig
    manifest: Manifest
    thresholds: tuple[float, ...]


def load_trained(run: Path) -> Trained:
    """Load the net of the best epoch of a run.

    Building the net draws random numbers of torch.

    Args:
        run: The run folder.

    Raises:
        SlipformError: `run` is no run folder, or its best.safetensors is missing or damaged.
    """
    config, manifest = run_config(run), read_manifest(run)
    best = read_best(run, manifest.classes)
    model = registry.build(
        replace(config.model, weights="none"),
        num_classes=manifest.num_classes,
        image_size=config.augment.image_size,
    )
    copy_weights(model, best.weights, run)
    return Trained(model, config, manifest, best.thresholds)


def inference_functions(
    model: nn.Module, config: RunConfig, device: torch.device, *, one_view: bool = False
) -> StepFunctions:
    """The functions of evaluation of a trained net, in the precision of its run.

    Args:
        model: The net. It is moved to the device, in evaluation mode and without gradients.
        config: The settings of its run.
        device: The device.
        one_view: Whether to leave out the flip_test and shift_test of the run.

    Returns:
        The functions; `evaluate` is the net. See `predict_logits`.
    """
    model = model.to(device).eval().requires_grad_(False)
    if config.train.channels_last is not False:
        model = model.to(memory_format=torch.channels_last)
    return StepFunctions(
        forward=model,
        evaluate=model,
        loss=make_loss(config.loss.unweighted()),  # it is not read
        precision=pick_precision(config.train.precision, device),
        device=device,
        flip_test=config.train.flip_test and not one_view,
        shift_test=0 if one_view else config.train.shift_test,
    )
