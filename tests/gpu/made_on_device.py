"""Compares batches that GPU kernels make, in Triton's interpreter, with those of a Loader.

In: a folder for the dataset; "all" as a second argument: warps, policies and blurs, too. Out:
nothing. An assertion fails if a batch differs. It runs in its own process, because TRITON_INTERPRET
is read at import.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"
sys.path.insert(0, str(Path(__file__).parents[2]))

import torch

from slipform.pipelines.device_batches import device_batches
from slipform.pipelines.executors import resident
from slipform.pipelines.executors.resident import ResidentExecutor
from slipform.pipelines.executors.resident_gpu import ResidentGpuExecutor
from slipform.pipelines.loader import Loader
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.blur import Blur
from slipform.pipelines.plan.policy import Policy
from tests.pipelines import folders, own

SPECS: dict[str, dict[str, Any]] = {
    "box": {"crop": "random_resized", "flip": "both", "erase": 0.5},
    "warp": {"rotation": 30.0, "zoom": [0.5, 1.5], "flip": "alternating"},
    "mixup": {"crop": "random", "resize": 0, "padding": 2, "mixup": 0.4},
    "cutmix": {"crop": "random", "resize": 0, "padding": 2, "cutmix": 1.0},
    "either": {"crop": "center", "resize": 10, "cutmix": 1.0, "mixup": 1.0, "mix_mode": "elem"},
    "policy": {"crop": "random", "resize": 0, "policy": Policy("rand_augment")},
    "blurred": {"crop": "random", "resize": 0, "policy": Policy("augmix"), "blur": Blur(0.5)},
}
BATCHES = 4  # of three an epoch
FEW = 2  # where the ends of epochs are not what is new


def open_loader(
    folder: Path,
    kind: type,
    ranks: tuple[int, int] = (0, 1),
    split_batches: bool = False,
    **options: Any,
) -> Loader:
    """A training loader with one of the two forms of `resident`."""
    resident.build = kind  # type: ignore[assignment]
    spec = Augmentation(image_size=8, normalize="half", **options)
    return Loader(
        folder, "train", spec, batch_size=5 if split_batches else 4, seed=9,
        executor="resident", threads=1, rank=ranks[0], world_size=ranks[1],
        split_batches=split_batches,
    )  # fmt: skip


def compare(
    folder: Path,
    options: dict[str, Any],
    start: tuple[int, int],
    ranks: tuple[int, int] = (0, 1),
    split_batches: bool = False,
    count: int = FEW,
) -> None:
    """`count` batches from a position on. ranks: rank and world_size."""
    shape = ranks, split_batches
    host = open_loader(folder, ResidentExecutor, *shape, **options)
    with host, open_loader(folder, ResidentGpuExecutor, *shape, **options) as gpu:
        assert device_batches(host.sequence) is None
        for loader in (host, gpu):
            loader.load_state_dict(loader.state_dict() | {"epoch": start[0], "seen": start[1]})
        batches = device_batches(gpu.sequence)
        assert batches
        batches.begin()
        for _ in range(count):
            if gpu.seen == 0:
                batches.begin()
            want = next(iter(host))
            got = batches.make()
            batches.count(1)
            assert (gpu.epoch, gpu.seen) == (host.epoch, host.seen)
            assert torch.equal(got.indices, want.indices)
            assert torch.equal(got.labels, want.labels)
            off = (got.images - want.images).abs()
            # A sampled value near a half may become the next level, which an operation enlarges.
            if "policy" in options:
                assert (off > 0.5 / 127.5).float().mean() <= 0.02
                assert off.mean() <= 1e-3
            else:
                assert off.max() <= 2e-5
            assert got.images.is_contiguous(memory_format=torch.channels_last)
            assert (got.mix is None) == (want.mix is None)
            if got.mix and want.mix:
                assert torch.equal(got.mix.labels, want.mix.labels)
                assert torch.equal(got.mix.weight, want.mix.weight)


if __name__ == "__main__":
    torch.set_num_threads(1)
    images = [folders.noise(9 + k, 14 - k // 2, k) for k in range(14)]
    folder = Path(folders.write_folder(Path(sys.argv[1]) / "raw", images))
    table: dict[str, Any] = {own.exchange.__name__: {}}
    with open_loader(folder, ResidentGpuExecutor, own=table) as loader:
        assert device_batches(loader.sequence) is None  # the host draws
    compare(folder, dict(SPECS["box"]), (0, 0), count=BATCHES)
    for name in ("warp", "either", "policy", "blurred") if sys.argv[2:] == ["all"] else ():
        compare(folder, dict(SPECS[name]), (0, 0))
    compare(folder, dict(SPECS["mixup"]), (3, 5))
    compare(folder, dict(SPECS["cutmix"]), (1, 4), ranks=(1, 2))  # inside a global batch
    pairs = SPECS["mixup"] | {"mix_mode": "pair", "mix_probability": 0.5}
    compare(folder, pairs, (0, 0), ranks=(1, 2), split_batches=True)  # 2 and 3 images
