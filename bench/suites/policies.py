"""Measure the CPU time of RandAugment and its relatives per image.

In: a dataset folder. Out: a row for each policy and library: Slipform, torchvision.transforms.v2
and timm. Each makes the same work: random resized crop, flip, policy, float32, normalized, from
decoded pixels in memory, on one core. The libraries take turns in each round.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from slipform.bench.options import data_argument, out_option
from slipform.bench.result.layout import Layout
from slipform.bench.result.result import Estimate, Row
from slipform.bench.suites import finish, say
from slipform.pipelines.errors import Command, SlipformError

__all__ = ["LAYOUT", "command", "measure"]

LAYOUT = Layout(
    title="Processor time of policies per image, of decoded pixels, on one core",
    rank=6,
    columns=("sample_seconds",),
    group=("data",),
)
_ROUNDS, _IMAGES = 7, 128
_POLICIES = ("none", "rand_augment", "trivial_augment_wide", "auto_augment_imagenet", "augmix")
# The names of these policies in timm's `auto_augment`. It has no TrivialAugment.
_IN_TIMM = {
    "none": None,
    "rand_augment": "rand-m9-n2",
    "auto_augment_imagenet": "original",
    "augmix": "augmix-m3-w3",
}


@click.command(cls=Command)
@data_argument
@click.option("--image-size", type=click.IntRange(1, 4096), default=224, show_default=True)
@out_option
def command(data: Path, image_size: int, out: Path | None) -> None:
    """Measure the CPU time of policies per image, with the dataset folder DATA.

    \b
    Example: bench policies data/caltech
    """
    from slipform.bench.race.worker import CallFailed, isolated
    from slipform.bench.result.environment import stamp
    from slipform.pipelines.manifest import read_manifest

    environment, rows = stamp(), []
    dataset = read_manifest(data).dataset
    for policy in _POLICIES:
        say(policy)
        try:
            found = isolated(measure, str(data), policy, image_size)
        except CallFailed as failure:
            say(f"  {failure.status}: {failure.note}")
            continue
        for library, estimate in found.items():
            rows.append(
                Row(
                    suite="policies",
                    case={"data": dataset, "policy": policy, "loader": library},
                    figures={"sample_seconds": estimate},
                )
            )
    if not rows:
        raise SlipformError("no policy could be measured")
    finish("policies", rows, out, environment)


def measure(
    data: str, policy: str, size: int, images: int = _IMAGES, rounds: int = _ROUNDS
) -> dict[str, Estimate]:
    """Measure one policy, in this process.

    Args:
        data: The dataset folder.
        policy: Name of a `Policy`.
        size: Side of the output in pixels.
        images: Number of images.
        rounds: Number of rounds.

    Returns:
        Library -> processor time per image in seconds. timm is missing if it has no such policy.
    """
    import torch

    from slipform.bench.race.measure import estimate
    from slipform.pipelines.dataset import open_dataset
    from slipform.pipelines.decoding.preload import decode_one

    torch.set_num_threads(1)
    beton = open_dataset(Path(data)).beton("train")
    pixels = [decode_one(beton, index) for index in range(min(images, len(beton)))]
    works = {
        "slipform": _slipform(pixels, policy, size),
        "torchvision.v2": _torchvision(pixels, policy, size),
    }
    if policy in _IN_TIMM:
        works["timm"] = _timm(pixels, policy, size)
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            began = time.process_time()
            work(number)
            if number:  # the first round compiles
                seconds[name].append((time.process_time() - began) / len(pixels))
    return {name: estimate(values) for name, values in seconds.items()}


def _slipform(pixels: list[Any], policy: str, size: int) -> Callable[[int], None]:
    import numpy as np
    import torch

    from slipform.pipelines.decoding.pixels import Pixels
    from slipform.pipelines.plan.augmentation import Augmentation
    from slipform.pipelines.plan.plan import draw
    from slipform.pipelines.plan.policy import Policy
    from slipform.pipelines.rendering.pool import RenderPool
    from slipform.pipelines.rendering.request import Settings

    spec = Augmentation(
        image_size=size,
        crop="random_resized",
        flip="horizontal",
        policy=Policy(policy),  # type: ignore[arg-type]
    ).resolved([], [])
    heights, widths = np.array([image.shape[:2] for image in pixels], np.int32).T.copy()
    addresses, samples = np.array([image.ctypes.data for image in pixels]), np.arange(len(pixels))
    stored = Pixels(addresses, heights, widths, owner=pixels)
    device = torch.device("cpu")
    settings = Settings(spec, len(pixels), torch.float32, device, 1, reuse_buffers=True)
    pool = RenderPool(settings, 1)

    def work(epoch: int) -> None:
        pool.begin(draw(spec, samples, heights, widths, 0, epoch), stored)
        pool.collect()

    return work


def _torchvision(pixels: list[Any], policy: str, size: int) -> Callable[[int], None]:
    import torch
    from torchvision.transforms import InterpolationMode, v2

    bilinear = InterpolationMode.BILINEAR
    steps: dict[str, Callable[[], Any]] = {
        "none": v2.Identity,
        "rand_augment": lambda: v2.RandAugment(interpolation=bilinear),
        "trivial_augment_wide": lambda: v2.TrivialAugmentWide(interpolation=bilinear),
        "auto_augment_imagenet": lambda: v2.AutoAugment(interpolation=bilinear),
        "augmix": lambda: v2.AugMix(interpolation=bilinear),
    }
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(size, antialias=True),
            v2.RandomHorizontalFlip(),
            steps[policy](),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.5] * 3, [0.5] * 3),
        ]
    )
    images = [torch.from_numpy(image).permute(2, 0, 1) for image in pixels]

    def work(epoch: int) -> None:
        torch.manual_seed(epoch)
        for image in images:
            transform(image)

    return work


def _timm(pixels: list[Any], policy: str, size: int) -> Callable[[int], None]:
    import random

    from PIL import Image
    from timm.data import create_transform

    transform = create_transform(
        size, is_training=True, auto_augment=_IN_TIMM[policy], color_jitter=None,
        interpolation="bilinear",
    )  # fmt: skip
    images = [Image.fromarray(image) for image in pixels]

    def work(epoch: int) -> None:
        random.seed(epoch)
        for image in images:
            transform(image)

    return work
