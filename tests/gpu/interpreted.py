"""Runs `resident` for GPUs in Triton's interpreter, and `resident` for CPU cores.

In: a folder for results, and the cases as JSON {name: [Augmentation's arguments, dtype, epochs]}.
Out: for each case an .npz: `host`, `gpu` float32 [epochs * N, 3, S, S] in levels of 255, and in
`after_close` the bytes that the closed executor still holds. It runs in its own process, because
TRITON_INTERPRET is read at import.
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

from slipform.pipelines.beton import Beton
from slipform.pipelines.executors.resident import ResidentExecutor
from slipform.pipelines.executors.resident_gpu import ResidentGpuExecutor
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.blur import Blur
from slipform.pipelines.plan.color_jitter import ColorJitter
from slipform.pipelines.plan.plan import draw
from slipform.pipelines.plan.policy import Policy
from slipform.pipelines.rendering import launch_pictures
from slipform.pipelines.rendering.request import BatchRequest, Settings
from tests.pipelines import folders, own

SIZES = [(1, 1), (1, 40), (37, 1), (2, 3), (48, 64), (33, 33), (32, 32), (90, 41), (17, 120)]
LEVELS = 127.5  # of 255 in one unit of the normalization "half"


def main(out: Path, cases: dict[str, tuple[dict[str, object], str, int]]) -> None:
    torch.set_num_threads(1)
    assert own.__name__  # its augmentations are registered
    images = [folders.noise(height, width, k) for k, (height, width) in enumerate(SIZES)]
    beton = Beton(Path(folders.write_folder(out / "raw", images)) / "train.beton")
    launch_pictures._BYTES = 4_000  # batches with a policy or a blur are rendered in several parts
    for name, (options, dtype, epochs) in cases.items():
        np.savez(out / f"{name}.npz", **_both(beton, options, getattr(torch, dtype), epochs))


def _both(
    beton: Beton, options: dict[str, object], dtype: torch.dtype, epochs: int
) -> dict[str, np.ndarray]:
    jitter = ColorJitter(*options.pop("jitter", ()))  # type: ignore[misc]
    policy = Policy(**options.pop("policy", {}))  # type: ignore[arg-type]
    blur = Blur(*options.pop("blur", ()))  # type: ignore[misc]
    options |= {"policy": policy, "blur": blur}
    spec = Augmentation(normalize="half", color_jitter=jitter, **options).resolved([], [])  # type: ignore[arg-type]
    indices = np.random.default_rng(0).permutation(len(beton))
    settings = Settings(spec, len(beton), dtype, torch.device("cpu"), threads=1)
    found: dict[str, list[np.ndarray]] = {"host": [], "gpu": []}
    kept = 0
    for kind, executor in (
        ("host", ResidentExecutor(beton, settings)),
        ("gpu", ResidentGpuExecutor(beton, settings)),
    ):
        for epoch in range(epochs):
            plan = draw(spec, indices, beton.heights[indices], beton.widths[indices], 5, epoch)
            executor.submit(BatchRequest(indices, lambda _, plan=plan: plan))  # type: ignore[misc]
            found[kind].append(executor.collect().images.float().numpy() * LEVELS)
        executor.close()
        if isinstance(executor, ResidentGpuExecutor):
            kept = executor.pixels.num_bytes + executor.ring.num_bytes
    return {
        **{kind: np.concatenate(batches) for kind, batches in found.items()},
        "after_close": np.array(kept),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
