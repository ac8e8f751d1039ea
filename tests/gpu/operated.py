"""Applies operations of a policy by the GPU kernels in Triton's interpreter, and by the kernels for
CPU cores.

In: JSON [[size, [[code, amount], ...], ...], ...], a size and some chains of the same length; and
what meets the chains, a second argument: "two" or "three" pictures, or "all": every picture with
every chain, in all ways. Out: nothing. An assertion fails if a level differs. Half of the pictures
show only a part of the image, so that an operation before the last movement changes only this part.
It runs in its own process, because TRITON_INTERPRET is read at import.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ["TRITON_INTERPRET"] = "1"
sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import torch
import triton

from slipform.pipelines.plan import operations as codes_of
from slipform.pipelines.rendering import triton as kernels
from slipform.pipelines.rendering import triton_operations
from slipform.pipelines.rendering.operations import operate, workspace
from tests.pipelines import folders

CLIP = np.array([2, 1, 21, 18], np.int32)  # of an image; its pictures show it moved and turned
MAPS = (
    [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    [[1, 0, 4], [0, 1, -3], [0, 0, 1]],
    [[0.9, 0.3, 1.5], [-0.3, 0.9, 2.25], [0, 0, 1]],
    [[0, 1, 0], [-1.5, 0, 20], [0, 0, 1]],
    [[0.9, 0.3, 1.5], [-0.3, 0.9, 2.25], [0.001, 0, 1]],
)


def pictures_of(size: int) -> list[np.ndarray]:
    smooth = folders.smooth(size, size, 3)
    return [
        folders.noise(size, size, 1),
        smooth,
        (smooth // 3 + 60).astype(np.uint8),
        np.repeat(smooth[..., :1], 3, axis=2),
        np.full((size, size, 3), 77, np.uint8),
    ]


def check(size: int, chains: list[list[tuple[int, float]]], which: str) -> None:
    """The operations of some chains on all pictures, before a movement (whose code is the last one,
    so that it is one operation more) or without one.

    Args:
        size: Side of the pictures in pixels.
        chains: The operations, as codes and amounts.
        which: "all": each picture meets each chain with two maps, with and without a movement. If
            not, noise meets each chain, and the maps and movements take turns: the interpreter has
            a tenth of the work. "two": the smooth picture meets one chain, too. "three": so does
            that of one level.
    """
    everything = which == "all"
    also = {"two": (1,), "three": (1, 4)}.get(which, ())
    pictures = [
        (p, MAPS[(i + j - turn) % len(MAPS)], (i + j + turn) % 2 if moved is None else moved, chain)
        for j, chain in enumerate(chains)
        for i, p in enumerate(pictures_of(size))
        if everything or i == 0 or (i in also and (i - 1) % len(chains) == j)
        for turn in ((0, 1) if everything else (0,))
        for moved in ((0, 1) if everything else (None,))
    ]
    count, depth = len(pictures), len(chains[0]) + 1
    codes = np.zeros((count, 1, depth), np.uint8)
    codes[:, 0, : depth - 1] = [[code for code, _ in chain] for *_, chain in pictures]
    codes[:, 0, -1] = [codes_of.ROTATE * moved for _, _, moved, _ in pictures]
    amounts = np.zeros((count, 1, depth), np.float32)
    amounts[:, 0, : depth - 1] = [[amount for _, amount in chain] for *_, chain in pictures]
    geometry = np.array([m for _, m, *_ in pictures], np.float32)
    want = [picture.ravel().copy() for picture, *_ in pictures]
    for i, picture in enumerate(want):
        operate(
            picture, size, (codes, amounts), i, 0, geometry[i].astype(np.float64), CLIP,
            workspace(size),
        )  # fmt: skip
    planes = np.stack([p.transpose(2, 0, 1) for p, *_ in pictures]).copy()
    there, changed = torch.from_numpy(planes), torch.zeros((count, 3, size, size)).byte()
    ints = np.zeros((count, 10), np.int32)
    ints[:, :4] = CLIP
    moves = np.array([[depth - 1 if moved else -1] for _, _, moved, _ in pictures], np.int32)
    arrays = (geometry, ints, codes.astype(np.int32), amounts, moves)
    numbers = [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
    tables = torch.zeros((count, 3, 256), dtype=torch.uint8)
    rows, columns = kernels.tile(size)
    shape = {"SIZE": size, "CHAINS": 1, "DEPTH": depth, "BY": rows, "BX": columns}
    read = shape | {"BX": triton.next_power_of_2(size)}
    programs = kernels.num_programs(count, size)
    for k in range(depth):
        triton_operations.find_tables[(3 * count,)](there, *numbers, k, tables, **read)
        triton_operations.operate[(programs,)](there, *numbers, k, tables, changed, **shape)
        there, changed = changed, there
    got = there.numpy().transpose(0, 2, 3, 1).reshape(count, -1)
    np.testing.assert_array_equal(got, np.stack(want))


if __name__ == "__main__":
    torch.set_num_threads(1)
    for size, *chains in json.loads(sys.argv[1]):
        check(size, chains, sys.argv[2])
