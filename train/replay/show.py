"""The batch of a step as a sheet of images, and as a file of tensors.

In: the place of a step. Out: files, and lines for the user.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from slipform.models.weight_file import write_weights
from slipform.train.figures.draw import FOLDER
from slipform.train.replay.batches import StepBatches, open_rank, replayed, tensors
from slipform.train.replay.sheet import Sheet, draw_sheet, positions
from slipform.train.replay.weights import Weights, predictions, weights_near
from slipform.train.run.folder import locked_if_run
from slipform.train.run.segments import Place, Segment
from slipform.train.run.starts import STARTS
from slipform.train.step.class_weights import Labels

__all__ = ["Shown", "sheet_of", "show_step"]


@dataclass(frozen=True)
class Shown:
    """What was drawn and written.

    Attributes:
        lines: What it shows, and how exact it is.
        files: The paths of the files.
    """

    lines: list[str]
    files: list[Path]


def show_step(
    run: Path,
    segments: list[Segment],
    place: Place,
    device: torch.device,
    *,
    index: int | None = None,
    weights: Weights | None = None,
    executor: str = "",
    images: int = 64,
    with_tensors: bool = False,
    out: Path | None = None,
) -> Shown:
    """Draw the images of a step, with labels, predictions and losses.

    Args:
        run: The run folder.
        segments: The segments of the run.
        place: The place of the step.
        device: The device of the batches and of the net.
        index: The sample that comes first on the sheet; None: the order of the batch.
        weights: The weights for the predictions. Default: `weights_near`.
        executor: The executor; see `open_rank`.
        images: The most images on the sheet.
        with_tensors: Whether to write a .safetensors file, too; see `tensors`.
        out: The folder of the files. Default: figures/ in the run folder.

    Raises:
        SlipformError: The dataset is missing or differs, a sample cannot be read, or another
            process uses the run folder.
    """
    sheet, made = sheet_of(run, segments, place, device, weights=weights, executor=executor)
    batch = sheet.batch
    folder, stem = out or run / FOLDER, f"replay-step-{place.step:08d}"
    with locked_if_run(folder, "replay-*"):
        files = [draw_sheet(folder, f"{stem}.png", sheet, positions(batch, images, index))]
        if with_tensors:
            files.append(folder / f"{stem}.safetensors")
            noted = {"run": str(run), "step": str(place.step), "epoch": str(place.epoch + 1)}
            write_weights(files[-1], tensors(made), {**noted, "executor": made.executor})
    lines = [sheet.title, _exactness(made)]
    if sheet.said is None:
        lines.append("the run has no weights: the sheet has no predictions")
    if not (run / STARTS).exists():
        lines.append("this run is of an older version: replayed as if it never had other settings")
    return Shown(lines, files)


def sheet_of(
    run: Path,
    segments: list[Segment],
    place: Place,
    device: torch.device,
    *,
    weights: Weights | None = None,
    executor: str = "",
) -> tuple[Sheet, StepBatches]:
    """Make the batch of a step again, and ask a net what it says of it.

    Args:
        run: The run folder.
        segments: The segments of the run.
        place: The place of the step.
        device: The device of the batches and of the net.
        weights: The weights for the predictions. Default: `weights_near`.
        executor: The executor; see `open_rank`.

    Returns:
        The sheet, whose `said` is None if the run has no weights, and the batches of the step.

    Raises:
        SlipformError: The dataset is missing or differs, or a sample cannot be read.
    """
    config = place.segment.config
    made = replayed(place, device, executor)
    batch = made.together()
    weights = weights or weights_near(run, segments, config, place.step)
    with open_rank(place.segment, torch.device("cpu"), 0, "host") as loader:
        manifest, names, labels = loader.manifest, loader.samples.names(), Labels.of(loader)
        normalize = loader.augment.normalize
    assert not isinstance(normalize, str)
    title, said = f"step {place.step}, epoch {place.epoch + 1}: {len(batch)} images", None
    if weights is not None:
        said = predictions(weights.model.to(device), config, batch, labels)
        loss = float(said.losses.mean())
        title += f"; loss {loss:.4g} with the weights of {weights.source}"
    return Sheet(title, batch, normalize, manifest.classes, names, said), made


def _exactness(made: StepBatches) -> str:
    start, config = made.place.segment.start, made.place.segment.config
    if made.exact:
        return f"pixels: made as in the run, by executor {made.executor}"
    several = start.device == "cuda" and config.train.steps_per_launch > 1
    launched = f", {config.train.steps_per_launch} steps in a launch" if several else ""
    return (
        f"pixels: of executor {made.executor} on {made.batches[0][0].images.device.type}; the run"
        f" had {start.executor} on {start.device}{launched}. They differ by rounding"
    )
