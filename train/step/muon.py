"""Muon for convolutions: a filter bank [O, I, h, w] is a matrix of O rows to torch.optim.Muon.

In: weights of two or four dimensions. Out: a torch optimizer over matrices that share their memory;
state, checkpoints and learning rates are torch's own. Jordan et al., "Muon: An optimizer for hidden
layers in neural networks", 2024.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class ConvMuon(torch.optim.Muon):
    """torch.optim.Muon for weights of linear layers and of convolutions, in either memory format.

    Args:
        groups: Parameter groups, as for any torch optimizer.
        unit_filters: Before each step, scale every weight to the Frobenius norm sqrt(O): the
            filters have a root mean square norm of 1. It is for nets with normalization behind each
            of these layers, whose outputs do not depend on the scale. The learning rate is then the
            share by which a step turns a filter (Keller Jordan's airbench94_muon, 2024).
        options: Passed on to torch.optim.Muon.
    """

    def __init__(
        self, groups: list[dict[str, Any]], *, unit_filters: bool = False, **options: Any
    ) -> None:
        self._weights: dict[nn.Parameter, nn.Parameter] = {}
        self._unit_filters = unit_filters
        super().__init__(
            [
                {**group, "params": [self._matrix(weight) for weight in group["params"]]}
                for group in groups
            ],
            **options,
        )

    def _matrix(self, weight: nn.Parameter) -> nn.Parameter:
        """The weight as a matrix in the same memory.

        It gets the weight's gradient as soon as there is one: a GradScaler unscales the gradients
        of the matrices in place, before the step.
        """
        matrix = nn.Parameter(_as_matrix(weight.detach(), weight))
        assert matrix.data_ptr() == weight.data_ptr()
        self._weights[matrix] = weight
        learns = weight.requires_grad
        weight.requires_grad_(True)  # else torch takes no hook, which a frozen layer may need later
        weight.register_post_accumulate_grad_hook(lambda weight: _share_gradient(weight, matrix))
        weight.requires_grad_(learns)
        return matrix

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        for matrix, weight in self._weights.items():
            _share_gradient(weight, matrix)
            if self._unit_filters and matrix.grad is not None:
                matrix.mul_(len(matrix) ** 0.5 / matrix.norm())
        loss = super().step(closure)
        for matrix in self._weights:
            matrix.grad = None  # else the memory would stay when the weight's own is freed
        return loss


def _share_gradient(weight: Tensor, matrix: Tensor) -> None:
    matrix.grad = None if weight.grad is None else _as_matrix(weight.grad, weight)


def _as_matrix(values: Tensor, weight: Tensor) -> Tensor:
    """[O, I, h, w] -> [O, I * h * w], or [O, h * w * I] where `weight` is in channels_last.

    Muon's result does not depend on the order of columns.
    """
    if weight.ndim == 4 and not weight.is_contiguous():
        values = values.permute(0, 2, 3, 1)
    return values.reshape(len(values), -1)
