"""Newton-Schulz iterations of several matrices at once: few launches of large kernels.

In: matrices. Out: their orthogonal factors, nearly. Jordan et al., "Muon: An optimizer for hidden
layers in neural networks", 2024; coefficients and arithmetic are those of torch.optim.Muon, which
takes one matrix after another.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["buckets", "orthogonalize"]

_MOST_WORK = 2.0  # times the work without padding


def buckets(shapes: list[tuple[int, int]]) -> list[list[int]]:
    """Which matrices are padded to one shape and multiplied together.

    Zeros beside a matrix stay zeros and change nothing, but cost work.

    Args:
        shapes: (rows, columns), rows <= columns.

    Returns:
        Positions in `shapes`. The first of a bucket is the largest. A bucket takes at most twice
        the work of its matrices.
    """

    def work(shape: tuple[int, int]) -> int:
        return shape[0] ** 2 * shape[1]

    found: list[list[int]] = []
    for i in sorted(range(len(shapes)), key=lambda i: shapes[i], reverse=True):
        for bucket in found:
            first = shapes[bucket[0]]
            own = sum(work(shapes[k]) for k in bucket) + work(shapes[i])
            fits = shapes[i][1] <= first[1]
            if fits and (len(bucket) + 1) * work(first) <= _MOST_WORK * own:
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
        matrices: Two-dimensional, on one device.
        coefficients: Of the quintic polynomial.
        steps: How often it is applied.
        eps: Least norm that is divided by.
        dtype: Of the products.

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
