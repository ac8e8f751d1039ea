"""The step whose loss stands out most from those before it, and its batch, for the page of a run.

In: a run folder. Out: the step, and a figure of the images that it saw.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slipform.pipelines.errors import DatasetError
from slipform.train.machine.distributed import pick_device
from slipform.train.page.parts import Replayed
from slipform.train.records import read_metrics
from slipform.train.replay.history import history, place_of_step
from slipform.train.replay.sheet import positions, sheet_figure
from slipform.train.replay.show import sheet_of

__all__ = ["Outstanding", "outstanding_batch", "outstanding_step"]

_BEFORE = 20  # steps
_IMAGES = 24
_ROWS = 50_000  # windows at a time


@dataclass(frozen=True)
class Outstanding:
    """A step with a high loss.

    Attributes:
        step: The step, counted from 1 over the whole run.
        loss: Its loss.
        usual: The median loss of the 20 steps before it.
    """

    step: int
    loss: float
    usual: float


def outstanding_step(run: Path) -> Outstanding | None:
    """The step with the highest loss in proportion to the median of the 20 steps before it.

    Args:
        run: The run folder.

    Returns:
        The step; None if the run has recorded fewer than 21 steps with losses above 0.
    """
    lines = [line for line in read_metrics(run, "step") if 0 < line["loss"] < np.inf]
    losses = np.array([line["loss"] for line in lines])
    if len(losses) <= _BEFORE:
        return None
    windows = np.lib.stride_tricks.sliding_window_view(losses[:-1], _BEFORE)
    parts = range(0, len(windows), _ROWS)
    usual = np.concatenate([np.median(windows[i : i + _ROWS], 1) for i in parts])
    most = int(np.argmax(losses[_BEFORE:] / usual))
    line = lines[_BEFORE + most]
    return Outstanding(int(line["step"]), float(line["loss"]), float(usual[most]))


def outstanding_batch(run: Path, device: str = "auto", data: Path | None = None) -> Replayed | None:
    """Make the batch of that step again, and draw its first images.

    Args:
        run: The run folder.
        device: "auto", "cpu", "cuda" or "cuda:N".
        data: The dataset folder. Default: that in config.toml.

    Returns:
        The figure and a sentence about it; None if there is no such step, or if the run did not
        train on the images of `data`.

    Raises:
        SlipformError: The dataset is missing or has changed, or a sample cannot be read.
    """
    found = outstanding_step(run)
    if found is None:
        return None
    try:
        segments = history(run, data)
    except DatasetError:
        if data is None:
            raise
        return None
    place = place_of_step(segments, found.step)
    sheet, _ = sheet_of(run, segments, place, pick_device(device, 0))
    shown = positions(sheet.batch, _IMAGES, None)
    words = (
        f"Step {found.step} of epoch {place.epoch + 1} had the loss {found.loss:.4g}; the median of"
        f" the {_BEFORE} steps before it is {found.usual:.4g}. These are {len(shown)} of the"
        f" {len(sheet.batch)} images that it saw."
    )
    if sheet.said is not None:
        words += f" Predictions and losses: {sheet.title.partition('; ')[2]}."
    return Replayed(
        sheet_figure(sheet, shown),
        words,
        f"slipform replay {shlex.quote(str(run))} --step {found.step}",
    )
