"""What a trained model sees in image files: `predict_images`.

In: files of any format that Pillow reads. Out: a `Prediction` for each, in order. Pixels go the way
of evaluation: the same Plan, the same resampling code as the loader's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from torch import Tensor

from slipform.pipelines.errors import SlipformError
from slipform.pipelines.executors.contract import Settings
from slipform.pipelines.plan.plan import draw
from slipform.pipelines.rendering.pool import Pictures, RenderPool
from slipform.train.inference.classifier import BATCH_SIZE, Trained
from slipform.train.step.step import predict_logits

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Prediction:
    """classes: (name, probability), likeliest first; empty where `error` says why the file could
    not be read."""

    file: Path
    classes: tuple[tuple[str, float], ...] = ()
    error: str = ""


def find_images(paths: Sequence[Path]) -> list[Path]:
    """The files named, and those with an image's ending in the folders named, sorted. Raises
    SlipformError for none."""
    endings = Image.registered_extensions()
    found: list[Path] = []
    for path in paths:
        inside = (
            sorted(p for p in path.rglob("*") if p.suffix.lower() in endings and p.is_file())
            if path.is_dir()
            else [path]
        )
        if not inside:
            raise SlipformError(f"{path} holds no images")
        found += inside
    return found


def read_pixels(path: Path) -> Pixels:
    """uint8 [H, W, 3] as a viewer shows it: upright, first frame, transparency over white, 16 bits
    reduced to 8."""
    with Image.open(path) as file:
        image: Image.Image = ImageOps.exif_transpose(file)
    if image.mode in ("I", "I;16", "I;16B", "F"):
        values = np.asarray(image, np.float64)
        image = Image.fromarray(
            np.clip(values / 257 if values.max(initial=0) > 255 else values, 0, 255)
            .round()
            .astype(np.uint8)
        )
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.ascontiguousarray(image.convert("RGB"), np.uint8)


def predict_images(trained: Trained, files: Sequence[Path], top: int) -> Iterator[Prediction]:
    """One Prediction a file, in the files' order."""
    spec = trained.config.augment.evaluation().resolved(trained.manifest.mean, trained.manifest.std)
    settings = Settings(
        spec,
        BATCH_SIZE,
        trained.state.functions.precision,
        trained.process.device,
        threads=torch.get_num_threads(),
    )
    pool = RenderPool(settings, 2)
    try:
        for first in range(0, len(files), BATCH_SIZE):
            yield from _predict_batch(
                trained, pool, settings, files[first : first + BATCH_SIZE], top
            )
    finally:
        pool.close()


def _predict_batch(
    trained: Trained, pool: RenderPool, settings: Settings, files: Sequence[Path], top: int
) -> Iterator[Prediction]:
    read: dict[Path, Pixels] = {}
    errors: dict[Path, str] = {}
    for file in files:
        try:
            read[file] = read_pixels(file)
        except Exception as error:  # Pillow's decoders raise a dozen kinds for damaged files
            errors[file] = f"cannot be read as an image ({error})"
    rows: dict[Path, tuple[tuple[str, float], ...]] = {}
    if read:
        logits = _logits(trained, render(list(read.values()), pool, settings))
        shares, classes = logits.softmax(1).topk(min(top, logits.shape[1]), dim=1)
        for file, names, values in zip(read, classes.tolist(), shares.tolist(), strict=True):
            rows[file] = tuple(
                (trained.classes[name], value) for name, value in zip(names, values, strict=True)
            )
    for file in files:
        yield Prediction(file, rows.get(file, ()), errors.get(file, ""))


def render(pictures: list[Pixels], pool: RenderPool, settings: Settings) -> Tensor:
    """Images in memory as the net takes them: [N, 3, S, S], by the Plan of evaluation."""
    heights = np.array([pixels.shape[0] for pixels in pictures], np.int32)
    widths = np.array([pixels.shape[1] for pixels in pictures], np.int32)
    plan = draw(settings.spec, np.arange(len(pictures)), heights, widths, seed=0, epoch=0)
    addresses = np.array([pixels.ctypes.data for pixels in pictures], np.int64)
    pool.begin(plan, Pictures(addresses, heights, widths, owner=pictures))
    return pool.collect().images


@torch.inference_mode()
def _logits(trained: Trained, images: Tensor) -> Tensor:
    return predict_logits(trained.state, images)
