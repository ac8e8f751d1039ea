"""The launches of the Triton kernels for samples with a policy or a blur: `launch_pictures`.

In: as for `launch`. Out: the same rows. A batch is rendered in parts, so that the pictures between
the kernels take little memory. A picture of a chain is uint8, and one to be blurred float32:

    policy    `sample` -> pictures -> `find_tables`, `operate` for each operation -> `mix`
    blur      what renders the sample without it -> float32 -> `blur_columns`, `blur_rows`
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
from torch import Tensor

from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.rendering import triton as kernels
from slipform.pipelines.rendering import triton_blur, triton_operations, triton_pictures
from slipform.pipelines.rendering.launch import erases, launch_render

__all__ = ["launch_pictures"]

_BYTES = 1 << 26  # of the pictures of a part, in one of two buffers
# A part is a multiple of so many samples. Its arrays then begin at multiples of 16 bytes. Triton
# compiles a kernel once more for arrays that do not.
_STEP = 4
_READ_AT_ONCE = 128  # columns of a picture, for its statistics

_Images = tuple[Tensor, Tensor, Tensor]


def launch_pictures(
    spec: Augmentation,
    images: _Images,
    indices: Tensor,
    rows: Tensor,
    numbers: Sequence[Tensor],
    out: Tensor,
) -> None:
    """Enqueue the rendering of samples with a policy, a blur, or both.

    Args:
        spec, images, indices, rows, numbers, out: As for `launch`.
    """
    chains = numbers[3].shape[1] if spec.policy else 0
    sample_bytes = 3 * spec.image_size**2 * max(chains, 4 if spec.blur else 0)
    part = max(1, _BYTES // sample_bytes // _STEP * _STEP)
    for start in range(0, len(indices), part):
        at = slice(start, min(start + part, len(indices)))
        some = [array[at] for array in numbers]
        render = _blurred if spec.blur else _policy
        render(spec, images, indices[at], rows[at], some, out)


def _blurred(
    spec: Augmentation,
    images: _Images,
    indices: Tensor,
    rows: Tensor,
    numbers: Sequence[Tensor],
    out: Tensor,
) -> None:
    """Render levels in float32, blur them, then map their colors and erase."""
    count, size = len(indices), spec.image_size
    floats, ints, *others, sigmas = numbers
    levels = floats.clone()  # with a color map that changes nothing
    levels[:, 9:] = 0
    levels[:, 9::5] = 1
    values = torch.empty((count, size, size, 3), dtype=torch.float32, device=out.device)
    sums = torch.empty_like(values)
    render = _policy if spec.policy else launch_render
    order = torch.arange(count, device=out.device)
    render(spec, images, indices, order, [levels, ints, *others], values, erase=False)
    tile_rows, tile_columns = kernels.tile(size)
    options = {
        "RADIUS": spec.blur.size_for(size) // 2,
        "SIZE": size,
        "BY": tile_rows,
        "BX": tile_columns,
        **triton_blur.OPTIONS,
    }
    grid = (kernels.num_programs(count, size),)
    triton_blur.blur_columns[grid](values, sigmas, sums, **options)
    triton_blur.blur_rows[grid](
        sums, sigmas, floats, ints, rows, out, ERASE=erases(spec), **options
    )


def _policy(
    spec: Augmentation,
    images: _Images,
    indices: Tensor,
    rows: Tensor,
    numbers: Sequence[Tensor],
    out: Tensor,
    *,
    erase: bool = True,
) -> None:
    """Sample the pictures of all chains, apply their operations, and add them."""
    floats, ints, geometry, codes, amounts, weights, moves = numbers
    count, chains, depth = codes.shape
    size, device = spec.image_size, out.device
    tile_rows, tile_columns = kernels.tile(size)
    tile = {"SIZE": size, "CHAINS": chains, "BY": tile_rows, "BX": tile_columns}
    read = tile | {"BX": min(_READ_AT_ONCE, triton.next_power_of_2(size))}
    erased = {"ERASE": erase and erases(spec)}
    programs = kernels.num_programs(count, size)
    pictures = torch.empty((count, chains, 3, size, size), dtype=torch.uint8, device=device)
    changed = torch.empty_like(pictures)
    tables = torch.empty((count, chains, 3, 256), dtype=torch.uint8, device=device)
    triton_pictures.sample[(programs * chains,)](
        *images, indices, rows, floats, ints, geometry, moves, pictures, out,
        **tile, **erased, **triton_pictures.OPTIONS,
    )  # fmt: skip
    exact = {"DEPTH": depth, **triton_operations.OPTIONS}
    operations = (geometry, ints, codes, amounts, moves)
    for k in range(depth):
        triton_operations.find_tables[(count * chains * 3,)](
            pictures, *operations, k, tables, **read, **exact
        )
        if k + 1 < depth:
            triton_operations.operate[(programs * chains,)](
                pictures, *operations, k, tables, changed, **tile, **exact
            )
            pictures, changed = changed, pictures
        else:
            triton_pictures.mix[(programs,)](
                pictures, *operations, tables, weights, floats, rows, out,
                **tile, **erased, **exact,
            )  # fmt: skip
