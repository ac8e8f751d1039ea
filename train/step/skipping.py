"""ASGD and RMSprop that skip a step with an infinite gradient on the device: `Asgd`, `RmsProp`.

In: parameter groups. Out: torch optimizers with the state and the steps of torch's. With float16 a
GradScaler asks the device before each step of an optimizer that cannot skip it, and the host waits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["Asgd", "RmsProp"]


class _Skipping(torch.optim.Optimizer):
    """Makes the step of an optimizer, and then puts back what it had changed, by a flag."""

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Read by GradScaler: whether `step` gets the scale and the flag as tensors.

        The first step makes the state of the optimizer. The host waits for it.
        """
        return all(one in self.state for one in self._parameters() if one.grad is not None)

    def _parameters(self) -> list[Tensor]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """See `torch.optim.Optimizer`."""
        infinite: Any = getattr(self, "found_inf", None)
        if not isinstance(infinite, Tensor):  # there is no GradScaler, or there are no gradients
            return super().step(closure)
        parameters = [one for one in self._parameters() if one.grad is not None]
        gradients = [one.grad for one in parameters if one.grad is not None]
        scale: Tensor | None = getattr(self, "grad_scale", None)
        if scale is not None:
            torch._foreach_div_(gradients, scale)
        for gradient in gradients:
            gradient.nan_to_num_(0.0, 0.0, 0.0)
        torch._foreach_mul_(gradients, 1 - infinite)  # a step that is put back has finite numbers
        changed = parameters + [
            value
            for one in parameters
            for value in self.state[one].values()
            if isinstance(value, Tensor) and value.device == infinite.device
        ]
        before = [value.clone() for value in changed]
        loss = super().step(closure)
        torch._foreach_mul_(before, infinite)
        torch._foreach_mul_(changed, 1 - infinite)
        torch._foreach_add_(changed, before)
        return loss


class Asgd(_Skipping, torch.optim.ASGD):
    """torch.optim.ASGD.

    Args:
        params, options: As for torch.optim.ASGD.
    """


class RmsProp(_Skipping, torch.optim.RMSprop):
    """torch.optim.RMSprop.

    Args:
        params, options: As for torch.optim.RMSprop.
    """
