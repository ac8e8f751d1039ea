"""Preprocessing as a part of a net, for exported files: pixels in, probabilities out.

In: the spec of evaluation and a net. Out: a module from uint8 images of any size, [N, H, W, 3]
(RGB), to probabilities [N, C]. It computes what `pipelines.plan.plan` describes for evaluation,
with operations that torch.export and ONNX have. `Classifier.predict` gives the same probabilities,
up to rounding.

The filter of each axis is a matrix [S, H] or [S, W], made from the size of the image. The
resized crop is the product of these matrices with the image.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from slipform.pipelines.plan.augmentation import Augmentation
from slipform.train.step.state import StepFunctions
from slipform.train.step.step import mean_logits

__all__ = ["PixelClassifier", "Preprocessing"]


class Preprocessing(nn.Module):
    """Resize, crop and normalize: uint8 [N, H, W, 3] -> float32 [N, 3, S, S].

    Args:
        spec: Size, crop and normalization of evaluation; `normalize` has numbers.
    """

    def __init__(self, spec: Augmentation) -> None:
        super().__init__()
        assert not isinstance(spec.normalize, str)
        self.spec = spec
        mean, std = (torch.tensor(values, dtype=torch.float64) for values in spec.normalize)
        self.register_buffer("scale", (1 / (255 * std)).float().reshape(3, 1, 1))
        self.register_buffer("shift", (-mean / std).float().reshape(3, 1, 1))

    scale: Tensor
    shift: Tensor

    def forward(self, images: Tensor) -> Tensor:
        """See the class.

        Args:
            images: uint8 [N, H, W, 3], RGB.
        """
        count, height, width, _ = images.shape
        # Positions as tensors: a Python number would fix the size of the image.
        rows = torch.arange(height, dtype=torch.float64, device=images.device)
        columns = torch.arange(width, dtype=torch.float64, device=images.device)
        num_rows, num_columns = rows[-1] + 1, columns[-1] + 1
        (y, step_y), (x, step_x) = (
            self._box(num_rows, num_columns),
            self._box(num_columns, num_rows),
        )
        down = self._weights(rows, num_rows, y, step_y)
        across = self._weights(columns, num_columns, x, step_x)
        flat = images.to(torch.float32).reshape(count, height, width * 3)
        reduced = (down @ flat).reshape(count, self.spec.image_size, width, 3)
        pixels = reduced.permute(0, 3, 1, 2) @ across.T
        if self.spec.interpolation == "bicubic":
            pixels = pixels.clamp(0.0, 255.0)
        return pixels * self.scale + self.shift

    def _box(self, length: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        """The start of the crop on an axis, and stored pixels per output pixel.

        `length` is the size of the image on this axis, `other` on the other one.
        """
        size, resize = self.spec.image_size, self.spec.resize
        if self.spec.crop == "none":
            return torch.zeros_like(length), length / size
        resized = length
        if resize:
            resized = torch.where(length <= other, resize, torch.floor(resize * length / other))
        offset = torch.where(
            resized < size,
            -torch.floor((size - resized) / 2),
            torch.round((resized - size) / 2),  # to the nearest even number, as in the plan
        )
        step = length / resized
        return offset * step, step

    def _weights(self, places: Tensor, length: Tensor, start: Tensor, step: Tensor) -> Tensor:
        """The filter of an axis: float32 [S, length], for the stored pixels at `places`."""
        outputs = torch.arange(self.spec.image_size, dtype=torch.float64, device=places.device)
        centers = start + (outputs + 0.5) * step
        outside = (centers < 0) | (centers >= length)
        if self.spec.border != "zero":
            centers = torch.where(outside, self._inside(centers, length, step), centers)
        distances = (places + 0.5 - centers.unsqueeze(1)).abs() / step.clamp(min=1.0)
        if self.spec.interpolation == "bicubic":
            weights = _keys(distances)
        else:
            weights = (1 - distances).clamp(min=0.0)
        weights = weights / weights.sum(1, keepdim=True)
        if self.spec.border == "zero":
            weights = torch.where(outside.unsqueeze(1), 0.0, weights)
        return weights.float()

    def _inside(self, centers: Tensor, length: Tensor, step: Tensor) -> Tensor:
        """The centers that replace those outside the image."""
        low, high = 0.5 * step, length - 0.5 * step
        if self.spec.border == "edge":
            moved = torch.minimum(torch.maximum(centers, low), high)
        else:
            period = 2 * (high - low)
            phase = centers - low
            phase = phase - torch.floor(phase / period) * period
            moved = low + torch.minimum(phase, period - phase)
        return torch.where(high <= low, 0.5 * length, moved)


def _keys(distances: Tensor) -> Tensor:
    """The cubic filter of `taps`, which is 0 from a distance of 2 on."""
    near = (1.5 * distances - 2.5) * distances**2 + 1
    far = ((-0.5 * distances + 2.5) * distances - 4) * distances + 2
    return torch.where(distances < 1, near, torch.where(distances < 2, far, 0.0))


class PixelClassifier(nn.Module):
    """Preprocessing, net and softmax or sigmoid: uint8 [N, H, W, 3] -> float32 [N, C].

    Args:
        model: The net, in evaluation mode: [N, 3, S, S] -> logits [N, C].
        spec: Size, crop and normalization of evaluation; `normalize` has numbers.
        functions: flip_test and shift_test are used: the logits are the mean over these views.
        several: Whether an image may have several classes: each has a probability of its own.

    Attributes:
        views: The functions of evaluation, with the net alone.
    """

    def __init__(
        self, model: nn.Module, spec: Augmentation, functions: StepFunctions, several: bool
    ) -> None:
        super().__init__()
        self.preprocessing = Preprocessing(spec)
        self.model = model
        self.views = replace(functions, forward=model, evaluate=model)
        self.several = several

    def forward(self, images: Tensor) -> Tensor:
        """See the class.

        Args:
            images: uint8 [N, H, W, 3], RGB.
        """
        return self.probabilities(self.preprocessing(images))

    def probabilities(self, inputs: Tensor) -> Tensor:
        """The probabilities of normalized images.

        Args:
            inputs: float32 [N, 3, S, S].
        """
        logits = mean_logits(self.views, inputs)
        return logits.sigmoid() if self.several else logits.softmax(1)
