"""Runs `stream`, with Triton's interpreter and DALI's decoder for CPU cores, and `host`.

In: a folder for results, and JSON {"cases": {name: Augmentation's arguments}, "shares": shares of
the decoder, "bad": its shares with bad samples, "count": images of an epoch}. Out: for each case an
.npz: `host` and `stream_SHARE`, float32 [N, 3, S, S] in levels of 255, zero without an image;
`again`: share 0.5 with another batch size and order. The case "photos" has large JPEGs. Also a file
bad_samples_checked. It runs in its own process, because TRITON_INTERPRET is read at import.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"
sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import pytest
import torch
from PIL import Image

from slipform.pipelines.beton import Beton
from slipform.pipelines.errors import SampleError
from slipform.pipelines.executors.host import HostExecutor
from slipform.pipelines.executors.stream import StreamExecutor
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.blur import Blur
from slipform.pipelines.plan.color_jitter import ColorJitter
from slipform.pipelines.plan.plan import draw
from slipform.pipelines.plan.policy import Policy
from slipform.pipelines.rendering.region import decode_scales
from slipform.pipelines.rendering.request import BatchRequest, Settings
from tests.pipelines import folders, own

SIZES = [(1, 1), (1, 40), (37, 1), (48, 64), (33, 33), (32, 32), (90, 41), (17, 120), (60, 60)]
LARGE = [(1200, 1000), (900, 1250)]
LEVELS = 127.5  # of 255 in one unit of the normalization "half"


def mixed(out: Path, broken: bool = False) -> Beton:
    """Every third image is raw. The others are JPEGs, some of them gray or progressive. broken: one
    JPEG cannot be decoded, and one has no header."""
    images: list[Any] = []
    for k, (height, width) in enumerate(SIZES * 2):
        pixels = folders.smooth(height, width, k)
        gray = pixels[..., 0] if k % 5 == 1 else pixels
        coded = folders.jpeg(gray, subsampling=0, progressive=k % 4 == 2)
        images.append(pixels if k % 3 == 0 else coded)
    sizes = [*SIZES, *SIZES]
    if broken:
        images[16] = images[16][:200] + bytes(len(images[16]) - 200)
        images[17] = b"no JPEG" * 20
    folder = folders.write_folder(out, images, **({"sizes": sizes} if broken else {}))
    return Beton(Path(folder) / "train.beton")


def photos(out: Path) -> Beton:
    """Two JPEGs above a megapixel, which `host` decodes at a fraction of their size."""
    small = [Image.fromarray(folders.smooth(90, 110, seed)) for seed in range(len(LARGE))]
    large = [np.asarray(one.resize(size)) for one, size in zip(small, LARGE, strict=True)]
    images = [folders.jpeg(pixels, subsampling=0) for pixels in large]
    beton = Beton(Path(folders.write_folder(out, images)) / "train.beton")
    settings, every = settings_of({"image_size": 12, "crop": "random_resized"}, 2), np.arange(2)
    plan = request_of(beton, settings, every, 1).plan()
    assert (decode_scales(plan, beton.heights, beton.widths) > 1).all()
    return beton


def settings_of(options: dict[str, Any], batch: int, **more: Any) -> Settings:
    options = dict(options)
    jitter = ColorJitter(*options.pop("jitter", ()))
    options |= {
        "policy": Policy(**options.pop("policy", {})),
        "blur": Blur(*options.pop("blur", ())),
    }
    spec = Augmentation(normalize="half", color_jitter=jitter, **options).resolved([], [])
    return Settings(spec, batch, torch.float32, torch.device("cpu"), threads=2, **more)


def request_of(beton: Beton, settings: Settings, indices: Any, epoch: int) -> BatchRequest:
    def plan(at: Any) -> Any:
        return draw(settings.spec, at, beton.heights[at], beton.widths[at], 5, epoch)

    return BatchRequest(indices, plan)


def epoch(executor: Any, beton: Beton, settings: Settings, size: int, order: Any) -> np.ndarray:
    """The images of an epoch in the order of the samples, in levels."""
    found = np.zeros((len(beton), 3, *[settings.spec.image_size] * 2), np.float32)
    for start in range(0, len(order), size):
        at = order[start : start + size]
        executor.submit(request_of(beton, settings, at, 1))
        found[at] = executor.collect().images.float().numpy() * LEVELS
    executor.close()
    return found


def compare(
    beton: Beton, options: dict[str, Any], shares: list[float], count: int
) -> dict[str, np.ndarray]:
    order = np.random.default_rng(0).permutation(len(beton))[:count]
    settings = settings_of(options, 18)
    found = {"host": epoch(HostExecutor(beton, settings), beton, settings, 18, order)}
    for share in shares:
        one = replace(settings, decoder_share=share)
        found[f"stream_{share}"] = epoch(StreamExecutor(beton, one), beton, one, 18, order)
    small = replace(settings, decoder_share=0.5, batch_size=5, reuse_buffers=True)
    found["again"] = epoch(StreamExecutor(beton, small), beton, small, 5, order[::-1])
    return found


def check_bad_samples(out: Path, shares: list[float]) -> None:
    """Bad samples are black and reported. The other samples do not change. on_bad = "error" names
    the sample."""
    whole, broken = mixed(out / "whole"), mixed(out / "broken", broken=True)
    some = np.arange(14, 18)
    for share in shares:
        settings = settings_of({"image_size": 5}, 4, on_bad="skip", decoder_share=share)
        images = []
        for beton in (whole, broken):
            executor = StreamExecutor(beton, settings)
            # The decoder was built again for the second batch.
            for _ in range(1 if beton is whole else 2):
                executor.submit(request_of(beton, settings, some, 0))
                found = executor.collect()
            assert found.bad == ([] if beton is whole else [2, 3])
            images.append(found.images.clone())
            executor.close()
        assert (images[1][2:] == -1).all()
        assert torch.equal(images[0][:2], images[1][:2])
        executor = StreamExecutor(broken, replace(settings, on_bad="error"))
        executor.submit(request_of(broken, settings, some, 0))
        with pytest.raises(SampleError, match=r"sample 1[67] "):
            executor.collect()
        executor.reset()  # and it continues
        executor.submit(request_of(broken, settings, some[:1], 0))
        assert executor.collect().bad == []
        executor.close()
        check_freed(broken, replace(settings, on_bad="error"), some)


def check_freed(beton: Beton, settings: Settings, some: np.ndarray) -> None:
    """An error that nobody asks for keeps no executor: no collection is needed to free it."""
    gc.collect()
    gc.disable()
    executor = StreamExecutor(beton, settings)
    executor.submit(request_of(beton, settings, some, 0))
    for workers in (executor._cores, executor._gpus):
        workers.settle()
    parts = executor._batches[0].parts
    assert any(part._errors for part in parts)
    left = weakref.ref(executor)
    executor.close()
    del executor, workers
    assert left() is None
    gc.enable()


if __name__ == "__main__":
    torch.set_num_threads(1)
    assert own.__name__  # its augmentations are registered
    target = Path(sys.argv[1])
    pixels = mixed(target / "mixed")
    asked = json.loads(sys.argv[2])
    for name, case in asked["cases"].items():
        stored = photos(target / "photos") if name == "photos" else pixels
        found = compare(stored, case, asked["shares"], asked["count"])
        np.savez(target / f"{name}.npz", **found)
    check_bad_samples(target, asked["bad"])
    (target / "bad_samples_checked").touch()
