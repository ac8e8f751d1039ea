"""Muon for convolutions: torch.optim.Muon gets a weight [O, I, h, w] as a matrix of O rows.

In: weights with two or four dimensions. Out: a torch optimizer of matrices that share the memory of
the weights. State, checkpoints and learning rates are those of torch. Jordan et al., "Muon: An
optimizer for hidden layers in neural networks", 2024.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from slipform.train.step.newton_schulz import orthogonalize

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
        # This makes a GradScaler give `step` the scale and the flag of infinite gradients as
        # tensors. The host would otherwise wait for the device in each step.
        self._step_supports_amp_scaling = True
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
        # A GradScaler sets these during the call. 0: the step changes nothing.
        scale: Tensor | None = getattr(self, "grad_scale", None)
        infinite: Tensor | int | None = getattr(self, "found_inf", None)  # int: no gradients
        keep = 1 - infinite if isinstance(infinite, Tensor) else None
        together = keep is not None or any(_on_device(group) for group in self.param_groups)
        if self._unit_filters:
            self._scale_filters(together, keep)
        if together:
            loss = None if closure is None else torch.enable_grad()(closure)()
            for group in self.param_groups:
                self._step_together(group, scale, keep)
        else:
            loss = super().step(closure)
        for matrix in self._weights:
            # A reference would keep the memory when the weight's gradient is freed.
            matrix.grad = None
        return loss

    def _scale_filters(self, together: bool, keep: Tensor | None) -> None:
        matrices: list[Tensor] = [m for m in self._weights if m.grad is not None]
        if together and matrices:
            factors = torch._foreach_reciprocal(torch._foreach_norm(matrices))
            torch._foreach_mul_(factors, [len(matrix) ** 0.5 for matrix in matrices])
            if keep is not None:
                factors = tuple(torch.where(keep > 0, factor, 1.0) for factor in factors)
            torch._foreach_mul_(matrices, factors)
            return
        for matrix in matrices:
            matrix.mul_(len(matrix) ** 0.5 / matrix.norm())

    def _step_together(
        self, group: dict[str, Any], scale: Tensor | None, keep: Tensor | None
    ) -> None:
        """torch's step, for all matrices of a group together. The learning rate may be a tensor.

        scale: divides the gradients. keep: 0 or 1; it multiplies all changes.
        """
        matrices = [matrix for matrix in group["params"] if matrix.grad is not None]
        if not matrices:
            return
        gradients: list[Tensor] = [matrix.grad for matrix in matrices]
        if scale is not None:
            gradients = list(torch._foreach_div(gradients, scale))
        if keep is not None:
            gradients = [gradient.nan_to_num(0.0, 0.0, 0.0) for gradient in gradients]
        for matrix in matrices:
            if "momentum_buffer" not in self.state[matrix]:
                self.state[matrix]["momentum_buffer"] = torch.zeros_like(matrix.grad)
        buffers = [self.state[matrix]["momentum_buffer"] for matrix in matrices]
        if keep is None:
            torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
        else:
            changes = torch._foreach_sub(gradients, buffers)
            torch._foreach_mul_(changes, keep * (1 - group["momentum"]))
            torch._foreach_add_(buffers, changes)
        updates = buffers
        if group["nesterov"]:
            updates = list(torch._foreach_lerp(gradients, buffers, group["momentum"]))
        turned = orthogonalize(updates, group["ns_coefficients"], group["ns_steps"], group["eps"])
        steps = [update.to(matrix.dtype) for update, matrix in zip(turned, matrices, strict=True)]
        torch._foreach_mul_(steps, [-_adjustment(group, matrix) for matrix in matrices])
        rate = group["lr"] if keep is None else group["lr"] * keep
        torch._foreach_mul_(steps, rate)
        if group["weight_decay"]:
            torch._foreach_mul_(matrices, 1 - rate * group["weight_decay"])
        torch._foreach_add_(matrices, steps)


def _on_device(group: dict[str, Any]) -> bool:
    """Whether to step all matrices together: few large kernels are faster on a GPU."""
    return isinstance(group["lr"], Tensor) or any(matrix.is_cuda for matrix in group["params"])


def _adjustment(group: dict[str, Any], matrix: Tensor) -> float:
    """torch's factor of the learning rate for a matrix."""
    rows, columns = matrix.shape
    if group["adjust_lr_fn"] == "match_rms_adamw":
        return 0.2 * math.sqrt(max(rows, columns))
    return math.sqrt(max(1, rows / columns))


def _share_gradient(weight: Tensor, matrix: Tensor) -> None:
    matrix.grad = None if weight.grad is None else _as_matrix(weight.grad, weight)


def _as_matrix(values: Tensor, weight: Tensor) -> Tensor:
    """[O, I, h, w] -> [O, I * h * w], or [O, h * w * I] if `weight` is in channels_last.

    The result of Muon does not depend on the order of the columns.
    """
    if weight.ndim == 4 and not weight.is_contiguous():
        values = values.permute(0, 2, 3, 1)
    return values.reshape(len(values), -1)
