"""`resident` on a GPU without its kernel: the launch, and the calls in Python."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slipform.pipelines.beton import Beton
from slipform.pipelines.decoding.preload import decode_one
from slipform.pipelines.errors import ConfigError, SampleError
from slipform.pipelines.executors import resident_gpu, resident_pixels
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.plan import draw
from slipform.pipelines.rendering.launch import READ_AFTER
from slipform.pipelines.rendering.request import BatchRequest, Settings
from slipform.pipelines.upload import upload_together
from tests.pipelines import folders
from tests.warm import Warm


class Launches:
    """Replaces the kernel: it records `kernel[grid](...)`."""

    def __init__(self) -> None:
        self.grids: list[tuple[int, ...]] = []

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        self.grids.append(grid)
        return lambda *_, **__: None


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Launches:
    from slipform.pipelines.rendering import triton

    launches = Launches()
    monkeypatch.setattr(triton, "render", launches)
    return launches


def _executor(beton: Beton, batch: int, **options: Any) -> resident_gpu.ResidentGpuExecutor:
    spec = Augmentation(normalize="half", **options).resolved([], [])
    settings = Settings(spec, batch, torch.float32, torch.device("cpu"), threads=1)
    return resident_gpu.ResidentGpuExecutor(beton, settings)


def _calls(executor: resident_gpu.ResidentGpuExecutor, beton: Beton, count: int) -> int:
    """The Python and C calls for one batch."""
    indices = np.arange(count) % len(beton)
    spec = executor._settings.spec
    plan = draw(spec, indices, beton.heights[indices], beton.widths[indices], 0, 1)
    executor.submit(BatchRequest(indices, lambda _: plan))  # compiled
    executor.collect()
    calls = 0

    def count_it(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count_it)
    try:
        executor.submit(BatchRequest(indices, lambda _: plan))
    finally:
        sys.setprofile(None)
    executor.collect()
    return calls


@pytest.mark.parametrize("options", [{"crop": "random_resized"}, {"rotation": 30.0}])
def test_a_large_batch_needs_no_more_calls(
    tmp_path: Path, kernel: Launches, options: dict[str, Any], no_collections: None
) -> None:
    images = [folders.noise(20 + k, 30, k) for k in range(4)]
    beton = Beton(Path(folders.write_folder(tmp_path / "raw", images)) / "train.beton")
    executor = _executor(beton, 64, image_size=8, **options)
    few = _calls(executor, beton, 2)
    assert _calls(executor, beton, 64) == few
    assert few <= 200
    executor.close()


def test_one_dimension_of_the_grid_takes_every_size(tmp_path: Path, kernel: Launches) -> None:
    """CUDA allows at most 65,535 programs in the second and third dimension."""
    beton = Beton(
        Path(folders.write_folder(tmp_path / "raw", [folders.noise(8, 8, 0)])) / "train.beton"
    )
    executor = _executor(beton, 1, image_size=4096)
    _calls(executor, beton, 1)
    assert set(kernel.grids) == {(16 * 128,)}


def test_an_image_beyond_32_bits_is_refused(tmp_path: Path) -> None:
    path = Path(folders.write_folder(tmp_path / "raw", [folders.noise(8, 8, 0)]))
    beton = Beton(path / "train.beton")
    beton.heights[0], beton.widths[0] = 30_000, 30_000
    with pytest.raises(ConfigError, match="2700000000 bytes"):
        _executor(beton, 1, image_size=8)


def test_more_pixels_than_memory_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(folders.write_folder(tmp_path / "raw", [folders.noise(8, 8, 0)]))
    monkeypatch.setattr(resident_pixels, "free_memory_bytes", lambda device: 191)
    with pytest.raises(ConfigError, match="take 192 bytes, and 191 are free on cpu"):
        _executor(Beton(path / "train.beton"), 1, image_size=8)


@pytest.mark.parametrize("jpegs", [0, 2])
@pytest.mark.parametrize("part", [100, 16 << 20])
def test_pixels_are_copied_in_parts(
    jpegs: int, part: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads read and check the pixels in parts. The host never holds all of them. A damaged image
    is black."""
    images = [folders.noise(9 + k, 14 - k, k) for k in range(8)]
    stored = [*images[jpegs:], *(folders.jpeg(image) for image in images[:jpegs])]
    path = Path(folders.write_folder(tmp_path / "raw", stored)) / "train.beton"
    beton = Beton(path)
    damaged = bytearray(path.read_bytes())
    damaged[beton.offsets[1] + 5] ^= 255
    path.write_bytes(damaged)
    beton = Beton(path)
    sizes: list[int] = []
    empty = torch.empty

    def watched(*shape: Any, **options: Any) -> torch.Tensor:
        sizes.append(shape[0])
        return empty(*shape, **options)

    monkeypatch.setattr(resident_pixels, "_PART_BYTES", part)
    monkeypatch.setattr(torch, "empty", watched)
    spec = Augmentation(image_size=8, normalize="half").resolved([], [])
    settings = Settings(spec, 2, torch.float32, torch.device("cpu"), threads=2, on_bad="skip")
    pixels = resident_pixels.ResidentPixels(beton, settings)
    assert sizes[0] == beton.resident_bytes() + READ_AFTER  # on the device
    assert (max(sizes[1:]) < beton.resident_bytes()) == (part == 100 and not jpegs)
    assert np.flatnonzero(pixels.bad).tolist() == [1]
    for i in range(len(beton)):
        start, count = int(pixels._offsets[i]), int(beton.heights[i]) * int(beton.widths[i]) * 3
        found = pixels._pixels[start : start + count].numpy()
        want = decode_one(beton, i).ravel() if i != 1 else np.zeros(count, np.uint8)
        np.testing.assert_array_equal(found, want)
    with pytest.raises(SampleError, match="sample 1 of"):
        resident_pixels.ResidentPixels(beton, replace(settings, on_bad="error"))


def test_arrays_in_one_transfer(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []

    def upload(values: np.ndarray, _: torch.device) -> torch.Tensor:
        sent.append(values.nbytes)
        return torch.from_numpy(values)

    monkeypatch.setattr("slipform.pipelines.upload.upload", upload)
    floats = np.arange(6, dtype=np.float32).reshape(2, 3)
    arrays = [np.arange(5), floats, np.arange(3, dtype=np.int32).reshape(3, 1)]
    found = upload_together(arrays, torch.device("cuda"))
    assert sent == [48 + 32 + 16]
    for tensor, array in zip(found, arrays, strict=True):
        assert tensor.data_ptr() % 16 == 0
        np.testing.assert_array_equal(tensor.numpy(), array)


OFFSET = 8_765_432_101
FAR = f"""
import mmap, os
os.environ["TRITON_INTERPRET"] = "1"
import numpy as np, torch
from slipform.pipelines.rendering import triton as kernel
# Only the pages that are written take memory; 0x4000 is MAP_NORESERVE. The interpreter copies
# tensors whole, so it is given the first bytes.
space = mmap.mmap(-1, {OFFSET} + 192, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)
pixels = np.frombuffer(space, np.uint8)
image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
pixels[{OFFSET}:] = image.ravel()
floats = np.zeros((1, 21), np.float32)
floats[0, [0, 4, 8, 9, 14, 19]] = 1
ints = np.array([[0, 0, 8, 8, 0, 0, 0, 0, 0, 0]], np.int32)
out, tensor = torch.empty(1, 8, 8, 3), torch.from_numpy
rows, columns, tiles = kernel.strip(8, True)
kernel.render[(kernel.num_programs(1, 8, rows * tiles),)](
    tensor(pixels[:16]), tensor(np.array([{OFFSET}])), tensor(np.array([[8, 8]], np.int32)),
    tensor(np.array([0])), tensor(np.array([0])), tensor(floats), tensor(ints), out,
    SIZE=8, BORDER=0, ALIGNED=True, ERASE=False, BY=rows, BX=columns, BLOCKS=tiles,
)
np.testing.assert_array_equal(out[0].numpy(), image)
"""


def test_pixels_beyond_32_bits(interpreter: Warm) -> None:
    done = interpreter.run(FAR)
    assert done.returncode == 0, done.stderr
