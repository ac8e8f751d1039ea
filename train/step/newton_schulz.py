"""Newton-Schulz iterations of several matrices at once, with few launches of large kernels.

In: matrices. Out: approximations of their orthogonal factors. Jordan et al., "Muon: An optimizer
for hidden layers in neural networks", 2024. The coefficients and the arithmetic are those of
torch.optim.Muon, which processes one matrix after another.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["buckets", "orthogonalize"]

_MAX_WORK = 2.0  # relative to the work without padding


def buckets(shapes: list[tuple[int, int]]) -> list[list[int]]:
    """Group matrices that are padded to the same shape and multiplied together.

    The zeros of the padding stay zeros and do not change the results, but they take time.

    Args:
        shapes: (rows, columns) of each matrix, with rows <= columns.

    Returns:
        Groups of positions in `shapes`. The first matrix of a group is the largest one. A group
        needs at most twice the work of its matrices.
    """

    def work(shape: tuple[int, int]) -> int:
        return shape[0] ** 2 * shape[1]

    found: list[list[int]] = []
    for i in sorted(range(len(shapes)), key=lambda i: shapes[i], reverse=True):
        for bucket in found:
            first = shapes[bucket[0]]
            own = sum(work(shapes[k]) for k in bucket) + work(shapes[i])
            fits = shapes[i][1] <= first[1]
            if fits and (len(bucket) + 1) * work(first) <= _MAX_WORK * own:
                bucket.append(i)
                break
        else:
            found.append([i])
    return found


def orthogonalize(
    matrices: list[Tensor],
    coefficients: tuple[float, float, float],
    steps: int,
    eps: float,
    dtype: torch.dtype = torch.bfloat16,
) -> list[Tensor]:
    """Replace the singular values of each matrix by values near 1.

    Args:
        matrices: Tensors with two dimensions, on the same device.
        coefficients: The coefficients of the quintic polynomial.
        steps: The number of iterations.
        eps: The minimum norm for the division at the start.
        dtype: The dtype of the products.

    Returns:
        New matrices of the same shapes, in `dtype`.
    """
    wide = [matrix.T if matrix.shape[0] > matrix.shape[1] else matrix for matrix in matrices]
    found: list[Tensor] = [matrices[0]] * len(matrices)
    a, b, c = coefficients
    for bucket in buckets([(len(matrix), matrix.shape[1]) for matrix in wide]):
        rows, columns = wide[bucket[0]].shape
        stacked = matrices[0].new_zeros((len(bucket), rows, columns), dtype=dtype)
        parts = [stacked[k, : wide[i].shape[0], : wide[i].shape[1]] for k, i in enumerate(bucket)]
        torch._foreach_copy_(parts, [wide[i] for i in bucket])
        stacked = stacked / torch.linalg.vector_norm(stacked, dim=(1, 2), keepdim=True).clamp(eps)
        for _ in range(steps):
            gram = torch.bmm(stacked, stacked.mT)
            update = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
            stacked = torch.baddbmm(stacked, update, stacked, beta=a)
        for k, i in enumerate(bucket):
            part = stacked[k, : wide[i].shape[0], : wide[i].shape[1]]
            found[i] = part if wide[i] is matrices[i] else part.T
    return found
