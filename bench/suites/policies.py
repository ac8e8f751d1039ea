"""Measure the CPU time of RandAugment and its relatives per image.

In: a dataset folder. Out: a row for each input, policy and library: Slipform,
torchvision.transforms.v2 and timm. Each makes the same work: crop, flip, policy, float32,
normalized, on one core, from decoded pixels in memory. With JPEGs there are rows from the stored
bytes, too, for Slipform alone.
Policies and libraries take turns in each round, so the ratio to the work without a policy is one of
the same round.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from slipform.bench.options import data_argument, out_option
from slipform.bench.result.layout import Layout
from slipform.bench.result.result import Estimate, Row, Settings
from slipform.bench.suites import finish, say
from slipform.pipelines.command import Command
from slipform.pipelines.errors import SlipformError

__all__ = ["LAYOUT", "command", "measure"]

LAYOUT = Layout(
    title="Processor time of policies per image, on one core",
    about="Slipform, torchvision.transforms.v2 and timm make the same images, in turns.",
    rank=6,
    columns=("sample_seconds", "plain_ratio"),
    group=("data", "input"),
)
_ROUNDS, _IMAGES = 15, 128
_POLICIES = (
    "none", "rand_augment", "trivial_augment_wide", "auto_augment_imagenet",
    "auto_augment_cifar10", "augmix",
)  # fmt: skip
# The names of these policies in timm's `auto_augment`. It has no TrivialAugment.
_IN_TIMM = {
    "none": None,
    "rand_augment": "rand-m9-n2",
    "auto_augment_imagenet": "original",
    "augmix": "augmix-m3-w3",
}
_Work = Callable[[int], None]


@click.command(cls=Command)
@data_argument
@click.option(
    "--libraries/--alone",
    default=True,
    help="Also measure torchvision and timm. [default: --libraries]",
)
@out_option
def command(data: Path, libraries: bool, out: Path | None) -> None:
    """Measure the CPU time of policies per image, with the dataset folder DATA.

    \b
    Example: bench policies data/caltech101
    """
    from slipform.bench.race.worker import CallFailed, isolated
    from slipform.bench.result.environment import stamp
    from slipform.bench.work import stored_as
    from slipform.pipelines.manifest import read_manifest

    dataset = read_manifest(data).dataset

    def rows() -> Iterator[Row]:
        for source in ("decoded", "stored") if stored_as(data) == "jpeg" else ("decoded",):
            say(source)
            case: Settings = {"data": dataset, "input": source, "policy": "all", "loader": "all"}
            try:
                found = isolated(measure, str(data), source, libraries)
            except CallFailed as failure:
                say(f"  {failure.status}: {failure.note}")
                yield Row(suite="policies", case=case, status=failure.status, note=failure.note)
                continue
            for (policy, library), figures in found.items():
                one: Settings = {**case, "policy": policy, "loader": library}
                yield Row(suite="policies", case=one, figures=figures)

    if all(row.status != "ok" for row in finish("policies", rows(), out, stamp())):
        raise SlipformError("no policy could be measured")


def measure(
    data: str, source: str, libraries: bool, images: int = _IMAGES, rounds: int = _ROUNDS
) -> dict[tuple[str, str], dict[str, Estimate]]:
    """Measure all policies from one input, in this process.

    Args:
        data: The dataset folder.
        source: "decoded": pixels in memory. "stored": the samples of the beton, as `host` reads
            them.
        libraries: Whether torchvision and timm are measured, too, where the pixels are decoded.
        images: Number of images.
        rounds: Number of rounds.

    Returns:
        (policy, library) -> sample_seconds, the processor time per image, and plain_ratio, its
        ratio to the time without a policy in the same library and round.
    """
    import torch

    from slipform.bench.race.measure import estimate, ratio
    from slipform.bench.work import usual_work
    from slipform.pipelines.dataset import open_dataset
    from slipform.pipelines.plan.policy import Policy

    torch.set_num_threads(1)
    beton = open_dataset(Path(data)).beton("train")
    count = min(images, len(beton))
    usual = usual_work(Path(data), batch_size=count, cores=1, device="cpu", dtype="float32").augment
    pixels = _decoded(beton, count) if source == "decoded" else []
    works: dict[tuple[str, str], _Work] = {}
    for name in _POLICIES:
        spec = replace(usual, policy=Policy(name)).resolved([], [])  # type: ignore[arg-type]
        if source == "stored":
            works[name, "slipform"] = _stored(beton, count, spec)
            continue
        works[name, "slipform"] = _slipform(pixels, spec)
        if libraries:
            works[name, "torchvision.v2"] = _torchvision(pixels, spec)
            if name in _IN_TIMM and spec.crop == "random_resized":
                works[name, "timm"] = _timm(pixels, spec)
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in works}
    for number in range(rounds + 1):
        for key, work in works.items():
            work(number)  # another library emptied the caches; in an epoch its batches are in a row
            began = time.process_time()
            work(number)
            if number:  # the first round compiles
                seconds[key].append((time.process_time() - began) / count)
    return {
        (name, library): {
            "sample_seconds": estimate(values),
            "plain_ratio": ratio(values, seconds["none", library]),
        }
        for (name, library), values in seconds.items()
    }


def _decoded(beton: Any, count: int) -> list[Any]:
    from slipform.pipelines.decoding.preload import decode_one

    return [decode_one(beton, index) for index in range(count)]


def _slipform(pixels: list[Any], spec: Any) -> _Work:
    import numpy as np
    import torch

    from slipform.pipelines.decoding.pixels import Pixels
    from slipform.pipelines.plan.plan import draw
    from slipform.pipelines.rendering.pool import RenderPool
    from slipform.pipelines.rendering.request import Settings

    heights, widths = np.array([image.shape[:2] for image in pixels], np.int32).T.copy()
    addresses, samples = np.array([image.ctypes.data for image in pixels]), np.arange(len(pixels))
    images = Pixels(addresses, heights, widths, owner=pixels)
    device = torch.device("cpu")
    settings = Settings(spec, len(pixels), torch.float32, device, 1, reuse_buffers=True)
    pool = RenderPool(settings, 1)

    def work(epoch: int) -> None:
        pool.begin(draw(spec, samples, heights, widths, 0, epoch), images)
        pool.collect()

    return work


def _stored(beton: Any, count: int, spec: Any) -> _Work:
    import numpy as np
    import torch

    from slipform.pipelines.executors import choose
    from slipform.pipelines.plan.plan import Plan, draw
    from slipform.pipelines.rendering.request import BatchRequest, Settings

    device = torch.device("cpu")
    settings = Settings(spec, count, torch.float32, device, threads=1, reuse_buffers=True)
    executor, samples = choose("host", beton, settings, {}), np.arange(count)

    def work(epoch: int) -> None:
        def plan(at: Any) -> Plan:
            heights, widths = beton.shapes.of(at)
            return draw(spec, at, heights, widths, 0, epoch)

        executor.submit(BatchRequest(samples, plan))
        executor.collect()

    return work


def _torchvision(pixels: list[Any], spec: Any) -> _Work:
    import torch
    from torchvision.transforms import InterpolationMode, v2

    bilinear = InterpolationMode.BILINEAR
    steps: dict[str, Callable[[], Any]] = {
        "none": v2.Identity,
        "rand_augment": lambda: v2.RandAugment(interpolation=bilinear),
        "trivial_augment_wide": lambda: v2.TrivialAugmentWide(interpolation=bilinear),
        "auto_augment_imagenet": lambda: v2.AutoAugment(interpolation=bilinear),
        "auto_augment_cifar10": lambda: v2.AutoAugment(
            v2.AutoAugmentPolicy.CIFAR10, interpolation=bilinear
        ),
        "augmix": lambda: v2.AugMix(interpolation=bilinear),
    }
    crop: Any = v2.RandomCrop(spec.image_size, padding=spec.padding)
    if spec.crop == "random_resized":
        crop = v2.RandomResizedCrop(spec.image_size, antialias=True)
    transform = v2.Compose(
        [
            crop,
            v2.RandomHorizontalFlip(),
            steps[spec.policy.name](),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(*spec.normalize),
        ]
    )
    images = [torch.from_numpy(image).permute(2, 0, 1) for image in pixels]

    def work(epoch: int) -> None:
        torch.manual_seed(epoch)
        for image in images:
            transform(image)

    return work


def _timm(pixels: list[Any], spec: Any) -> _Work:
    import random

    from PIL import Image
    from timm.data import create_transform

    transform = create_transform(
        spec.image_size, is_training=True, auto_augment=_IN_TIMM[spec.policy.name],
        color_jitter=None, interpolation="bilinear",
    )  # fmt: skip
    images = [Image.fromarray(image) for image in pixels]

    def work(epoch: int) -> None:
        random.seed(epoch)
        for image in images:
            transform(image)

    return work
