"""The net of a teacher, as it answers for the images of a student.

In: the run folder of the teacher, the loader of the student. Out: logits for the student's classes,
and everything that they depend on besides the weights and the images.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from slipform.models import probe
from slipform.pipelines.batch import Batch
from slipform.pipelines.loader import Loader
from slipform.pipelines.manifest import Manifest, read_manifest
from slipform.pipelines.upload import upload
from slipform.train.config.image_sizes import evaluation_augment, size_at
from slipform.train.config.run_config import RunConfig
from slipform.train.machine.device import pick_precision
from slipform.train.run.folder import run_config
from slipform.train.run.trained import Trained, inference_functions, load_trained
from slipform.train.step.step import predict_logits

__all__ = ["TeacherNet", "about_teacher", "check_sizes"]


class TeacherNet:
    """A trained net that gets the images of a student.

    Args:
        folder: The run folder of the teacher.
        loader: The loader of the student: its classes, its normalization and its device.

    Raises:
        SlipformError: The folder is no run folder, or has no weights.
    """

    def __init__(self, folder: Path, loader: Loader) -> None:
        device = loader.device
        model, config, manifest, _ = _load(folder, device)
        self._functions = inference_functions(
            model, _for_device(config, device), device, one_view=True
        )
        place = {name: number for number, name in enumerate(manifest.classes)}
        places = torch.tensor([place[name] for name in loader.manifest.classes])
        self._places = upload(places, device)
        before, after = loader.augment.normalize, _normalize(config, manifest)
        (mean, deviation), (mean_after, deviation_after) = (
            tuple(torch.tensor(numbers, device=device).view(1, 3, 1, 1) for numbers in spec)
            for spec in (before, after)
        )
        self._factor = deviation / deviation_after
        self._shift = (mean - mean_after) / deviation_after
        self._same = bool((self._factor == 1).all() and (self._shift == 0).all())

    def logits(self, batch: Batch) -> Tensor:
        """The logits for the images of a batch.

        Args:
            batch: A batch of the student's loader.

        Returns:
            float32 [B, C], in the order of the student's classes, on the device.
        """
        images = batch.images
        if not self._same:
            images = images.float() * self._factor + self._shift
        with torch.inference_mode():
            found = predict_logits(self._functions, images.to(self._functions.precision))
            return found[:, self._places]


def about_teacher(folder: Path, device: torch.device) -> dict[str, Any]:
    """Everything in a teacher's folder that its answers depend on, besides the weights.

    Args:
        folder: The run folder of the teacher.
        device: The device on which it answers.
    """
    config, manifest = run_config(folder), read_manifest(folder)
    return {
        "model": asdict(config.model),
        "classes": manifest.classes,
        "normalize": _normalize(config, manifest),
        "precision": str(pick_precision(_for_device(config, device).train.precision, device)),
    }


def check_sizes(folder: Path, config: RunConfig, device: torch.device) -> None:
    """Check that the net of a teacher takes the images of all epochs of a student.

    Args:
        folder: The run folder of the teacher.
        config: The settings of the student.
        device: The device of the student.

    Raises:
        ConfigError: It does not.
        SlipformError: The folder is no run folder, or has no weights.
    """
    model = _load(folder, device).model
    for size in {size_at(config, epoch + 1) for epoch in range(config.train.epochs)}:
        probe.check_size(model, config.model.name, size)


def _load(folder: Path, device: torch.device) -> Trained:
    """Load the teacher. Building a net draws random numbers; the student must not notice."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        return load_trained(folder)


def _normalize(config: RunConfig, manifest: Manifest) -> Any:
    """The mean and the deviation of the images of the teacher."""
    return evaluation_augment(config).resolved(manifest.mean, manifest.std).normalize


def _for_device(config: RunConfig, device: torch.device) -> RunConfig:
    """The settings of the teacher; on a CPU, a teacher of a GPU in float16 answers in float32."""
    if device.type == "cpu" and config.train.precision == "fp16":
        return config.replace("train.precision", "fp32")
    return config
