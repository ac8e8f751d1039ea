"""On an NVIDIA GPU (pytest -m gpu): every executor gives the pixels of its version for CPU cores,
complete, in stream order, and the host does not wait.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from slipform.pipelines.beton import Beton
from slipform.pipelines.executors import GPU_ONLY, NAMES, choose
from slipform.pipelines.loader import Loader
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.blur import Blur
from slipform.pipelines.plan.color_jitter import ColorJitter
from slipform.pipelines.plan.plan import Plan, draw
from slipform.pipelines.plan.policy import Policy
from slipform.pipelines.rendering.request import BatchRequest, Settings
from tests.pipelines import folders

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]

POLICIES = (
    "rand_augment",
    "trivial_augment_wide",
    "auto_augment_imagenet",
    "auto_augment_cifar10",
    "auto_augment_svhn",
    "augmix",
)
LEVEL = 255 / 2  # normalized with "half", this many levels make one unit
JITTER = ColorJitter(0.3, 0.3, 0.3, 0.1)
SPECS: dict[str, dict[str, Any]] = {
    "center": {"image_size": 64, "resize": 72},
    "random-resized": {
        "image_size": 64,
        "crop": "random_resized",
        "flip": "both",
        "color_jitter": JITTER,
        "grayscale": 0.3,
    },
    "padded": {"image_size": 32, "resize": 0, "crop": "random", "padding": 4, "flip": "horizontal"},
    "edge": {"image_size": 60, "resize": 40, "border": "edge", "erase": 0.5},
    "rotated": {
        "image_size": 48,
        "resize": 56,
        "rotation": 30,
        "zoom": (0.7, 1.5),
        "shear": 15,
        "perspective": 0.3,
    },
    "black corners": {"image_size": 48, "resize": 56, "rotation": 90, "corners": "black"},
}
SIZES = [
    (1, 1),
    (1, 40),
    (37, 1),
    (48, 64),
    (64, 48),
    (33, 33),
    (200, 90),
    (61, 251),
    (121, 120),
    (257, 319),
    (500, 333),
    (40, 40),
]
BATCH = 4


def _jpeg(image: np.ndarray, number: int) -> bytes:
    """JPEGs that are baseline, progressive, with full chroma, with subsampled chroma, and
    grayscale, in turn."""
    picture = Image.fromarray(image)
    buffer = io.BytesIO()
    options: dict[str, Any] = {
        "quality": 92,
        "progressive": number % 2 == 1,
        "subsampling": 2 if number % 3 == 0 else 0,
    }
    (picture.convert("L") if number % 4 == 3 else picture).save(buffer, "JPEG", **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def jpegs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("nvidia.dali")
    images = [_jpeg(folders.smooth(height, width, k), k) for k, (height, width) in enumerate(SIZES)]
    return Path(folders.write_folder(tmp_path_factory.mktemp("gpu") / "jpegs", images))


@pytest.fixture(scope="module")
def raws(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images = [folders.smooth(height, width, k) for k, (height, width) in enumerate(SIZES)]
    return Path(folders.write_folder(tmp_path_factory.mktemp("gpu") / "raws", images))


def _loader(
    folder: Path, executor: str, device: str, dtype: torch.dtype, spec: dict[str, Any]
) -> Loader:
    if executor == "dali":
        pytest.importorskip("nvidia.dali")
    if device == "cpu" and executor in GPU_ONLY:
        executor = "host"
    return Loader(
        folder,
        "train",
        Augmentation(**spec),
        batch_size=BATCH,
        executor=executor,
        device=device,
        dtype=dtype,
        threads=2,
    )


def _epochs(
    folder: Path, executor: str, device: str, dtype: torch.dtype, spec: dict[str, Any]
) -> np.ndarray:
    """float32 [24, S, S, 3] in levels: two epochs."""
    found = []
    with _loader(folder, executor, device, dtype, spec) as loader:
        for batch in [*_kept(loader), *_kept(loader)]:
            assert batch.device.type == device
            assert batch.dtype == dtype
            assert batch.is_contiguous(memory_format=torch.channels_last)
            found.append(batch.float().permute(0, 2, 3, 1).cpu().numpy())
    return np.concatenate(found) * LEVEL


def _kept(loader: Loader) -> list[torch.Tensor]:
    return [batch.images.clone(memory_format=torch.preserve_format) for batch in loader]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("stored", ["jpegs", "raws"])
@pytest.mark.parametrize("name", list(SPECS))
@pytest.mark.parametrize("executor", NAMES)
def test_executors_give_the_pixels_of_their_cpu_versions(
    executor: str, name: str, stored: str, dtype: torch.dtype, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(stored)
    want = _epochs(folder, executor, "cpu", torch.float32, SPECS[name])
    got = _epochs(folder, executor, "cuda", dtype, SPECS[name])
    off = np.abs(got - want) - {torch.float32: 0.0, torch.float16: 2**-11, torch.bfloat16: 2**-8}[
        dtype
    ] * np.abs(want)
    if (
        executor in ("dali", "stream") and stored == "jpegs"
    ):  # the GPU's decoder rounds and enlarges color differently
        assert off.mean() <= 1
        assert (off <= 4).mean() >= 0.999
    else:
        assert off.max() <= (0.5 if executor == "dali" else 0.1)


@pytest.mark.parametrize("stored", ["jpegs", "raws"])
@pytest.mark.parametrize("crop", ["random-resized", "padded", "black corners"])
@pytest.mark.parametrize("name", ["none", *POLICIES])
@pytest.mark.parametrize("executor", ["resident", "stream"])
def test_policies_and_blurs_are_those_of_host(
    executor: str, name: str, crop: str, stored: str, request: pytest.FixtureRequest
) -> None:
    """A sampled value near a half may become the next level, which an operation then enlarges.
    `resident` on a GPU decodes on CPU cores; `stream` decodes a half of the JPEGs on the GPU."""
    folder = request.getfixturevalue(stored)
    spec = SPECS[crop] | {"policy": Policy(name), "blur": Blur(0.5 if name == "none" else 0.2)}
    want = _epochs(folder, "host", "cpu", torch.float32, spec)
    off = np.abs(_epochs(folder, executor, "cuda", torch.float32, spec) - want)
    if executor == "stream" and stored == "jpegs":  # another decoder, whose levels differ by 1 to 4
        assert np.median(off.reshape(len(off), -1).mean(axis=1)) <= 2
    elif name == "none":
        assert off.max() <= 0.1
    else:
        assert (off <= 0.1).mean() >= 0.99
        assert off.mean() <= 0.1


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("executor", ["dali", "stream"])
def test_a_jpeg_is_decoded_alike_at_every_position(
    executor: str, share: float, jpegs: Path
) -> None:
    beton = Beton(jpegs / "train.beton")
    spec = Augmentation(image_size=32, normalize="half").resolved([], [])
    device = torch.device("cuda")
    settings = Settings(spec, len(beton), torch.float32, device, threads=2, decoder_share=share)
    made = choose(executor, beton, settings, {})
    found = []

    def plan(at: np.ndarray) -> Plan:
        return draw(spec, at, beton.heights[at], beton.widths[at], 0, 0)

    for order in (np.arange(len(beton)), np.arange(len(beton))[::-1].copy()):
        made.submit(BatchRequest(order, plan))
        images = made.collect().images.clone()
        found.append(images[torch.from_numpy(order.argsort()).to(device)])
    made.close()
    assert torch.equal(*found)


@pytest.mark.parametrize("executor", NAMES)
def test_a_consumer_that_lags_behind_sees_whole_batches(executor: str, jpegs: Path) -> None:
    """Its stream reads each batch long after the host has requested the next ones."""
    spec = SPECS["random-resized"]
    want = _epochs(jpegs, executor, "cuda", torch.float32, spec)
    stream, found = torch.cuda.Stream(), []
    with torch.cuda.stream(stream), _loader(jpegs, executor, "cuda", torch.float32, spec) as loader:
        for _ in range(2):
            for batch in loader:
                torch.cuda._sleep(20_000_000)
                found.append(batch.images * 1.0)
        stream.synchronize()
    got = torch.cat(found).permute(0, 2, 3, 1).cpu().numpy() * LEVEL
    assert np.abs(got - want).max() <= 0.1


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("executor", NAMES)
def test_the_host_never_waits_for_the_device(
    executor: str, name: str, mix: str, raws: Path
) -> None:
    """torch reports its own waits, including copies from memory that is not pinned."""
    with _loader(raws, executor, "cuda", torch.bfloat16, SPECS[name] | {mix: 0.5}) as loader:
        list(loader)  # compiled
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(3):
                for batch in loader:
                    assert batch.images.shape[0] == BATCH
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("executor", ["resident", "stream"])
def test_the_host_never_waits_for_the_pictures_of_a_policy(executor: str, raws: Path) -> None:
    spec = SPECS["random-resized"] | {"policy": Policy("augmix"), "blur": Blur(0.5)}
    with _loader(raws, executor, "cuda", torch.bfloat16, spec) as loader:
        list(loader)  # compiled
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(3):
                list(loader)
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.skipif(
    "PYTEST_XDIST_WORKER" in os.environ,
    reason="counts the memory of all processes of the GPU: pytest -m gpu -n 0 -k memory",
)
@pytest.mark.parametrize("executor", NAMES)
def test_memory_does_not_grow(executor: str, jpegs: Path) -> None:
    def used() -> int:
        free, total = torch.cuda.mem_get_info()
        return total - free

    with _loader(jpegs, executor, "cuda", torch.float32, SPECS["random-resized"]) as loader:
        for _ in range(20):
            list(loader)
        before = used()
        for _ in range(100):
            list(loader)
        assert used() <= 1.05 * before
