"""What an exported file computes: the net alone, or preprocessing and net.

In: a trained model. Out: a `Program`: a module, inputs for a check, and the outputs that the model
gives for them.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from slipform.pipelines.plan.augmentation import Augmentation
from slipform.train.inference.predict import read_batches
from slipform.train.inference.preprocessing import PixelClassifier
from slipform.train.step.state import StepFunctions

__all__ = ["Program", "net_program", "pixel_program"]


@dataclass(frozen=True)
class Program:
    """What is exported, and what it must compute.

    Attributes:
        module: A module in evaluation mode, on the CPU, from one tensor to one tensor.
        examples: Inputs; the first one is used for tracing.
        expected: The outputs for these inputs.
        dynamic: The names of the leading dimensions of the input that may change.
        output: The name of the output.
        classes: The names of the classes, for an output "classes" of an ONNX file; empty: none.
    """

    module: nn.Module
    examples: tuple[Tensor, ...]
    expected: tuple[Tensor, ...]
    dynamic: tuple[str, ...] = ("batch",)
    output: str = "logits"
    classes: tuple[str, ...] = ()

    @property
    def shapes(self) -> tuple[dict[int, Any]]:
        """The dimensions that may change, for torch.export."""
        return (dict.fromkeys(range(len(self.dynamic)), torch.export.Dim.DYNAMIC),)


def net_program(model: nn.Module, image_size: int) -> Program:
    """The net alone: normalized images, float32 [N, 3, S, S], to logits.

    Args:
        model: The net in evaluation mode, on any device; it is not changed.
        image_size: S.
    """
    model = copy.deepcopy(model).cpu().to(memory_format=torch.contiguous_format)
    images = torch.randn(2, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return Program(model, (images,), (model(images),))


def pixel_program(
    model: nn.Module,
    spec: Augmentation,
    functions: StepFunctions,
    classes: Sequence[str],
    several: bool = False,
) -> Program:
    """Preprocessing and net: images of any size, uint8 [N, H, W, 3], to probabilities.

    What it must compute comes from the code that `predict` uses.

    Args:
        model: The net in evaluation mode, on any device; it is not changed.
        spec: Size, crop and normalization of evaluation; `normalize` has numbers.
        functions: The functions of evaluation.
        classes: The names of the classes.
        several: Whether an image may have several classes.
    """
    model = copy.deepcopy(model).cpu().to(memory_format=torch.contiguous_format)
    module = PixelClassifier(model, spec, functions, several).eval()
    random = np.random.default_rng(0)
    size = spec.image_size
    shapes = ((2, size + 31, 2 * size + 3, 3), (1, 3 * size, size + 1, 3), (3, 48, 40, 3))
    examples = [random.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]
    expected = []
    with torch.no_grad():
        for images in examples:
            (batch,) = read_batches(list(images), spec, torch.float32, torch.device("cpu"), {})
            assert batch.tensor is not None
            expected.append(module.probabilities(batch.tensor))
    return Program(
        module,
        tuple(map(torch.from_numpy, examples)),
        tuple(expected),
        ("batch", "height", "width"),
        "probabilities",
        tuple(classes),
    )
