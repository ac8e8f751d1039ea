"""BatchNorm over the batches of all processes together: `synchronize(model)`.

In: a net, and an initialized process group. Out: the same net with the same names and weights. In
training, its BatchNorm layers compute mean and variance over the global batch: N processes train
like one process with the whole batch. Evaluation does not change.

torch.nn.SyncBatchNorm is not used. It runs on GPUs only. It also waits for the device in every
layer, since any process may have a batch of any size; here all processes know the sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["SyncBatchNorm", "synchronize"]


def synchronize(model: nn.Module, sizes: Sequence[int]) -> None:
    """Turn every BatchNorm layer, of any class, into a `SyncBatchNorm`.

    Args:
        model: The plain net, on its device; changed in place. Names, weights and statistics do not
            change.
        sizes: The images in a batch of each process.
    """
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.__class__ = SyncBatchNorm
            assert isinstance(module, SyncBatchNorm)
            if len(set(sizes)) > 1:
                module.sizes = tuple(sizes)
                shares = torch.tensor(sizes, dtype=torch.float64) / sum(sizes)
                device = next(iter(model.state_dict().values())).device
                module.shares = shares.float().unsqueeze(1).to(device)


class SyncBatchNorm(_BatchNorm):
    """BatchNorm (Ioffe and Szegedy, 2015) with the statistics of the batches of all processes.

    Inputs are [N, C, ...].

    Attributes:
        sizes: The images in a batch of each process; (): all have the same.
        shares: The shares of the processes in a global batch, float32 [processes, 1], on the device
            of the weights; None: all have the same.
    """

    sizes: tuple[int, ...] = ()
    shares: Tensor | None = None

    def _check_input_dim(self, input: Tensor) -> None:
        pass  # any number of dimensions

    def forward(self, input: Tensor) -> Tensor:
        """See `nn.Module`."""
        if not self.training:
            return super().forward(input)
        count = self._count(input)
        output, mean, variance = _Normalize.apply(
            input, self.weight, self.bias, self.eps, count, self.shares
        )
        if (
            self.running_mean is not None
            and self.running_var is not None
            and self.num_batches_tracked is not None
        ):
            with torch.no_grad():
                self.num_batches_tracked += 1
                share = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
                self.running_mean.lerp_(mean, share)
                self.running_var.lerp_(variance * (count / (count - 1)), share)
        assert isinstance(output, Tensor)
        return output

    def _count(self, input: Tensor) -> int:
        """The number of values of each channel, over all processes."""
        own = input.numel() // input.shape[1]
        if not self.sizes:
            return own * dist.get_world_size()
        return own // self.sizes[dist.get_rank()] * sum(self.sizes)


class _Normalize(torch.autograd.Function):
    """(input - mean) / sqrt(variance + eps) * weight + bias.

    The mean and the (biased) variance, float32 [C], are over all processes. Weight and bias may be
    None, as in a layer with affine=False.
    """

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
        count: int,
        shares: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        variance, mean = torch.var_mean(input.float(), _all_but_channels(input), correction=0)
        means, variances = _gather(torch.stack([mean, variance])).unbind(1)
        # The variance of the whole is the mean of the parts' variances plus the variance of their
        # means (Chan et al., 1979).
        if shares is None:
            mean, variance = means.mean(0), variances.mean(0) + means.var(0, correction=0)
        else:
            mean = (means * shares).sum(0)
            variance = ((variances + (means - mean).square()) * shares).sum(0)
        ctx.count = count
        ctx.save_for_backward(input, weight, mean, (variance + eps).rsqrt())
        ctx.mark_non_differentiable(mean, variance)
        return F.batch_norm(input, mean, variance, weight, bias, False, 0.0, eps), mean, variance

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        input, weight, mean, inverse = ctx.saved_tensors
        axes, has_weight = _all_but_channels(input), weight is not None
        mean, inverse, weight = (
            x.view(1, -1, *[1] * (input.ndim - 2))
            for x in (mean, inverse, weight if has_weight else torch.ones_like(mean))
        )
        normalized = (input.float() - mean) * inverse
        gradient = gradients[0].float()
        sums = torch.stack([gradient.sum(axes), (gradient * normalized).sum(axes)])
        # The gradients of this process: DDP averages them over the processes.
        bias_gradient, weight_gradient = sums.clone()
        dist.all_reduce(sums)
        through_mean, through_variance = (sums / ctx.count).view(2, *mean.shape)
        input_gradient = (gradient - through_mean - normalized * through_variance) * (
            weight * inverse
        )
        own = (weight_gradient, bias_gradient) if has_weight else (None, None)
        return input_gradient.to(input.dtype), *own, None, None, None


def _all_but_channels(input: Tensor) -> list[int]:
    return [0, *range(2, input.ndim)]


def _gather(tensor: Tensor) -> Tensor:
    """The tensors of all processes, [processes, *shape], in the order of their ranks."""
    every = tensor.new_empty(dist.get_world_size() * tensor.shape[0], *tensor.shape[1:])
    dist.all_gather_into_tensor(every, tensor)
    return every.view(-1, *tensor.shape)
