"""The Plan of each batch, drawn on the device: `DevicePlan`.

In: an Augmentation, the sizes and labels of all stored images, the order of each epoch, a position.
Out: indices, labels and Plan of the next batch, in the memory of the device. The host gives the
order of an epoch once. After that it only launches the kernels of `slipform.pipelines.plan.triton`.
With TRITON_INTERPRET=1 they also run on a CPU, slowly.
"""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.device_chains import DeviceChains
from slipform.pipelines.plan.kernels import GRAY
from slipform.pipelines.plan.plan import numbers_of
from slipform.pipelines.upload import upload

__all__ = ["DevicePlan", "switches", "table"]

_Int32 = npt.NDArray[np.int32]
_Int64 = npt.NDArray[np.int64]


class DevicePlan:
    """Draws the Plans of consecutive batches.

    The next `draw` overwrites all attributes, on the stream that is current in that call.

    Args:
        spec: The resolved augmentation. MixUp and CutMix are not drawn here.
        heights, widths: int32 [M], sizes of all stored images in pixels.
        labels: int64 [M]. -100: the image cannot be read.
        seed: The seed.
        batch_size: Images per batch on this process.
        first: Images of a batch over all processes before those of this one.
        global_batch_size: Images per batch over all processes. 0: this process is the only one.
        device: The device.

    Attributes:
        indices, labels: int64 [batch_size], the samples of the batch.
        floats: float32 [batch_size, 21], geometry and color.
        ints: int32 [batch_size, 10], clip, erased box and reduced size.
        keys: int64 [batch_size], the bits of `Plan.erase_keys`; 0 without noise in erased boxes.
        sigmas: float32 [batch_size], as `Plan.blur`. None: there is no blur.
        chains: The operations of a policy. None: there is no policy.
        numbers: floats, ints, and what there is of chains and sigmas, in the order of
            `launch.pack`.
        position: int64 [3], of the next batch: epoch, samples of it seen, seed.
    """

    def __init__(
        self,
        spec: Augmentation,
        heights: _Int32,
        widths: _Int32,
        labels: _Int64,
        *,
        seed: int,
        batch_size: int,
        first: int = 0,
        global_batch_size: int = 0,
        device: torch.device,
    ) -> None:
        self._device, self._batch, self._total = device, batch_size, len(heights)
        self._first, self._global_batch = first, global_batch_size or batch_size
        self._switches = switches(spec)
        self._numbers = upload(table(spec), device)
        self._sizes = upload(np.stack([heights, widths], axis=1), device)
        self._labels_of = upload(np.array(labels, np.int64), device)
        words = np.array([0, 0, np.array(seed, np.uint64).astype(np.int64)], np.int64)
        self.position = upload(words, device)
        self._order = torch.zeros((2, self._total), dtype=torch.int64, device=device)
        self.indices = torch.zeros(batch_size, dtype=torch.int64, device=device)
        self.labels = torch.zeros_like(self.indices)
        self.floats = torch.zeros((batch_size, 21), dtype=torch.float32, device=device)
        self.ints = torch.zeros((batch_size, 10), dtype=torch.int32, device=device)
        self.keys = torch.zeros_like(self.indices)
        self.chains = DeviceChains(spec, batch_size, device) if spec.policy else None
        self.sigmas = torch.zeros_like(self.floats[:, 0]) if spec.blur else None
        self.numbers = [self.floats, self.ints]
        if self.chains is not None:
            self.numbers += self.chains.numbers
        if self.sigmas is not None:
            self.numbers.append(self.sigmas)

    def set_order(self, epoch: int, samples: _Int64) -> None:
        """Give the order of an epoch. It replaces the order of the epoch before the previous one.

        Args:
            epoch: The epoch, from 0.
            samples: int64 [M], the global order.
        """
        self._order[epoch % 2].copy_(upload(samples, self._device), non_blocking=True)

    def go_to(self, epoch: int, seen: int) -> None:
        """Set the position of the next batch.

        The order of the epoch must have been given. The order of the next epoch must be given
        before the last batch of this one is drawn.

        Args:
            epoch: The epoch, from 0.
            seen: Samples of it before the batch, over all processes.
        """
        at = upload(np.array([epoch, seen], np.int64), self._device)
        self.position[:2].copy_(at, non_blocking=True)

    def draw(self) -> None:
        """Enqueue the drawing of the next batch and move the position. The host does not wait."""
        from slipform.pipelines.plan import triton as kernels

        kernels.draw[(-(-self._batch // kernels.BLOCK),)](
            self._order,
            self.position,
            self._sizes,
            self._labels_of,
            self._numbers,
            self.indices,
            self.labels,
            self.floats,
            self.ints,
            self.keys,
            self._batch,
            self._total,
            self._first,
            **self._switches,
            BLOCK=kernels.BLOCK,
            **kernels.OPTIONS,
        )
        if self.chains is not None:
            self.chains.draw(self.position, self.indices, self.floats)
        if self.sigmas is not None:
            kernels.draw_sigmas[(-(-self._batch // kernels.BLOCK),)](
                self.position,
                self.indices,
                self._numbers,
                self.sigmas,
                self._batch,
                BLOCK=kernels.BLOCK,
                **kernels.OPTIONS,
            )
        kernels.advance[(1,)](self.position, self._total, self._global_batch, **kernels.OPTIONS)


def table(spec: Augmentation) -> npt.NDArray[np.float64]:
    """The numbers of an augmentation in the order of the kernels.

    Args:
        spec: The resolved augmentation.

    Returns:
        float64 [48].
    """
    n = _attributes(spec)
    size = n.image_size
    factors = []
    for strength in (n.brightness, n.contrast, n.saturation):
        low = max(0.0, 1.0 - strength)
        factors += [low, 1.0 + strength - low]
    values = [
        *(size, n.resize, n.padding),  # 0
        *(n.scale[0], n.scale[1] - n.scale[0]),  # 3
        *(math.log(n.ratio[0]), math.log(n.ratio[1]) - math.log(n.ratio[0]), *n.ratio),  # 5
        n.flip_probability,  # 9
        *(n.rotation, n.shear, n.translate[0], n.translate[1]),  # 10
        *(n.zoom[0], n.zoom[1] - n.zoom[0], math.pi / 180),  # 14
        # 17; the probability is 0 without a perspective
        *(n.perspective_probability * (n.perspective > 0), int(n.perspective * (size // 2)) + 1),
        *(n.grayscale, *factors, n.hue, 2 * math.pi, math.sqrt(3.0)),  # 19
        *(*GRAY, GRAY[0] + GRAY[1] + GRAY[2]),  # 29
        *(*n.means, *(1.0 / s for s in n.deviations)),  # 33
        *(n.erase, math.log(0.3), math.log(3.3) - math.log(0.3), 1e-6),  # 39
        *(spec.blur.probability, spec.blur.sigma[0], spec.blur.sigma[1] - spec.blur.sigma[0]),  # 43
    ]
    return np.array(values + [0.0] * (48 - len(values)), np.float64)


def _attributes(spec: Augmentation) -> SimpleNamespace:
    """The numbers of an augmentation as attributes."""
    numbers = numbers_of(spec)
    return SimpleNamespace(**{name: numbers[name] for name in numbers.dtype.names or ()})


def switches(spec: Augmentation) -> dict[str, Any]:
    """The options with which the kernel is compiled: the parts that an augmentation needs.

    Args:
        spec: The resolved augmentation.

    Returns:
        Keyword arguments of `slipform.pipelines.plan.triton.draw`.
    """
    n = _attributes(spec)
    jitter = any((n.brightness, n.contrast, n.saturation, n.hue, n.grayscale))
    return {
        "CROP": int(n.crop),
        "FLIP": int(n.flip),
        "WARP": bool(n.warp),
        "CUT": bool(n.cut),
        "POLICY": bool(spec.policy),
        "JITTER": jitter,
        "ERASE": spec.erase > 0,
        "NOISE": spec.erase > 0 and spec.erase_mode != "const",
    }
