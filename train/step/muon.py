"""Muon for convolutions: torch.optim.Muon gets a weight [O, I, h, w] as a matrix of O rows.

In: weights with two or four dimensions. Out: a torch optimizer of matrices that share the memory of
the weights. State, checkpoints and learning rates are those of torch. Jordan et al., "Muon: An
optimizer for hidden layers in neural networks", 2024.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["ConvMuon"]


class ConvMuon(torch.optim.Muon):
    """torch.optim.Muon for weights of linear layers and of convolutions, in either memory format.

    Args:
        groups: Parameter groups, as for any torch optimizer.
        unit_filters: Scale every weight to the Frobenius norm sqrt(O) before each step: the root
            mean square of the filters' norms is 1. Use it for nets with a normalization layer after
            each of these layers: their outputs do not depend on the scale. The learning rate is
            then the relative change of a filter in a step (Keller Jordan's airbench94_muon, 2024).
        options: Other arguments of torch.optim.Muon.
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

        A hook gives the matrix the weight's gradient as soon as there is one: a GradScaler unscales
        the gradients of the matrices in place, before the step.
        """
        matrix = nn.Parameter(_as_matrix(weight.detach(), weight))
        assert matrix.data_ptr() == weight.data_ptr()
        self._weights[matrix] = weight
        learns = weight.requires_grad
        weight.requires_grad_(True)  # torch needs it for a hook; a frozen layer may learn later
        weight.register_post_accumulate_grad_hook(lambda weight: _share_gradient(weight, matrix))
        weight.requires_grad_(learns)
        return matrix

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """See `torch.optim.Optimizer`."""
        for matrix, weight in self._weights.items():
            _share_gradient(weight, matrix)
            if self._unit_filters and matrix.grad is not None:
                matrix.mul_(len(matrix) ** 0.5 / matrix.norm())
        loss = super().step(closure)
        for matrix in self._weights:
            # A reference would keep the memory when the weight's gradient is freed.
            matrix.grad = None
        return loss


def _share_gradient(weight: Tensor, matrix: Tensor) -> None:
    matrix.grad = None if weight.grad is None else _as_matrix(weight.grad, weight)


def _as_matrix(values: Tensor, weight: Tensor) -> Tensor:
    """[O, I, h, w] -> [O, I * h * w], or [O, h * w * I] if `weight` is in channels_last.

    The result of Muon does not depend on the order of the columns.
    """
    if weight.ndim == 4 and not weight.is_contiguous():
        values = values.permute(0, 2, 3, 1)
    return values.reshape(len(values), -1)
