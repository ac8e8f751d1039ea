"""Draws Plans with the GPU kernel in Triton's interpreter, and with the kernel for CPU cores.

In: a folder for results, and the cases as JSON {name: [number of samples, Augmentation's
arguments]}. Out: for each case an .npz with the arrays of both, `host_...` and `device_...`, of one
batch in each of two epochs. It runs in its own process, because TRITON_INTERPRET is read at import.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ["TRITON_INTERPRET"] = "1"

import numpy as np
import torch

from slipform.pipelines.order import EpochOrder
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.blur import Blur
from slipform.pipelines.plan.color_jitter import ColorJitter
from slipform.pipelines.plan.device import DevicePlan
from slipform.pipelines.plan.operations import BRIGHTNESS, SHEAR_X
from slipform.pipelines.plan.plan import draw
from slipform.pipelines.plan.policy import Policy
from slipform.pipelines.rendering.taps import reduced_sizes

SEED = 2**63 + 12345678901  # uses all 64 bits of the key
LAST_EPOCH = 7


def both(options: dict[str, object], count: int) -> dict[str, np.ndarray]:
    """Indices, labels, floats [N, 21], ints [N, 10], keys, chains of both, N = 2 * count."""
    jitter = ColorJitter(*options.pop("jitter", ()))  # type: ignore[misc]
    options |= {"policy": Policy(**options.pop("policy", {}))}  # type: ignore[arg-type]
    options |= {"blur": Blur(*options.pop("blur", ()))}  # type: ignore[misc]
    spec = Augmentation(normalize="imagenet", color_jitter=jitter, **options).resolved([], [])  # type: ignore[arg-type]
    total = 2 * count + 1
    heights, widths = np.random.default_rng(1).integers(1, 600, (2, total)).astype(np.int32)
    labels = np.arange(total) % 10
    # The first process gets one sample less.
    order = EpochOrder(total, 2 * count - 1, SEED, rank=1, world_size=2, split_batches=True)
    assert (order.first, order.size) == (count - 1, count)
    plan = DevicePlan(
        spec,
        heights,
        widths,
        labels,
        seed=SEED,
        batch_size=count,
        first=order.first,
        global_batch_size=order.global_batch_size,
        device=torch.device("cpu"),
    )
    for epoch in (LAST_EPOCH - 1, LAST_EPOCH):
        plan.set_order(epoch, order.samples(epoch))
    plan.go_to(LAST_EPOCH - 1, 0)
    found: dict[str, list[np.ndarray]] = {}
    for epoch in (LAST_EPOCH - 1, LAST_EPOCH):
        plan.draw()
        indices = order.batch(epoch, 0)
        sides = heights[indices], widths[indices]
        host = draw(spec, indices, *sides, SEED, epoch)
        ints = np.zeros((count, 10), np.int32)
        ints[:, :4] = host.clip
        if host.erase is not None:
            ints[:, 4:8] = host.erase
        if host.chains is not None:
            x0, y0, x1, y1 = host.clip.T
            ints[:, 8:] = reduced_sizes(host.geometry, spec.image_size, y1 - y0, x1 - x0)
        elif not host.axis_aligned:
            ints[:, 8:] = reduced_sizes(host.geometry, spec.image_size, *sides)
        floats = np.concatenate([host.geometry.reshape(count, 9), host.color.reshape(count, 12)], 1)
        pairs = [
            ("indices", indices, plan.indices),
            ("labels", labels[indices], plan.labels),
            ("floats", floats, plan.floats),
            ("ints", ints, plan.ints),
        ]
        if host.erase_keys is not None:
            pairs.append(("keys", host.erase_keys.view(np.int64), plan.keys))
        if host.blur is not None:
            pairs.append(("sigmas", host.blur, plan.sigmas))
        if host.chains is not None:
            names = ("geometry", "codes", "amounts", "weights")
            pairs += [(one, getattr(host.chains, one), getattr(plan.chains, one)) for one in names]
            pairs.append(("moves", moves_of(host.chains.codes), plan.chains.moves))
        for name, on_host, on_device in pairs:
            found.setdefault(f"host_{name}", []).append(on_host)
            found.setdefault(f"device_{name}", []).append(on_device.numpy().copy())
    return {name: np.concatenate(parts) for name, parts in found.items()}


def moves_of(codes: np.ndarray) -> np.ndarray:
    """int32 [N, C]; see `slipform.pipelines.plan.triton_chains.draw_chains`."""
    found = np.full(codes.shape[:2], -1, np.int32)
    for n, c in np.ndindex(found.shape):
        for k, code in enumerate(codes[n, c]):
            if SHEAR_X <= code < BRIGHTNESS:
                found[n, c] = k
        if codes.shape[1] == 1 and (codes[n, c] < BRIGHTNESS).all():
            found[n, c] = -2
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name, (count, options) in json.loads(sys.argv[2]).items():
        np.savez(Path(sys.argv[1]) / f"{name}.npz", **both(options, count))
