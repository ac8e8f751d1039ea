"""The learning-rate finder: the loss of steps whose learning rate rises, and a suggestion.

In: the settings of a run, its dataset. Out: rates, losses, a suggested learning rate. The steps
train a model of their own (Smith, 2017): no run folder is read or written, and a run that begins
afterwards is the same as without them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch

from slipform.pipelines.batch import Batch
from slipform.pipelines.errors import ConfigError, SlipformError
from slipform.pipelines.loader import Loader
from slipform.pipelines.manifest import read_manifest
from slipform.pipelines.mirror.folder import source_of
from slipform.pipelines.number_text import number_text
from slipform.train.config.run_config import RunConfig
from slipform.train.machine.device import set_up
from slipform.train.machine.distributed import Process, pick_device
from slipform.train.records.smoothing import MovingAverage
from slipform.train.run.auto import without_auto
from slipform.train.run.training_data import first_images, open_training_data
from slipform.train.step.build import build_state
from slipform.train.step.class_weights import Labels
from slipform.train.step.optim import set_learning_rate
from slipform.train.step.step import set_train_mode, train_step

__all__ = ["RateSearch", "find_rate", "valley"]

_SMOOTHING = 0.98  # of the losses, as in fastai
_DIVERGED = 4.0  # times the best smoothed loss, as in fastai
_TIMED = 4  # steps after which the time of all steps is known
_LONG = 10.0  # seconds
_CUT_LAST = 5  # losses that are not looked at, as in fastai; and a tenth of the steps at first


@dataclass(frozen=True)
class RateSearch:
    """What the learning-rate finder saw.

    Attributes:
        rates: The learning rate of each step.
        losses: The loss of each step.
        smoothed: Their exponential moving average with decay 0.98, corrected for its beginning.
        suggestion: The suggested optimizer.lr: the middle of the longest valley.
        steepest: The learning rate where the smoothed loss falls fastest.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggestion: float
    steepest: float


def find_rate(
    config: RunConfig,
    data: Path | str,
    *,
    device: str = "auto",
    low: float = 1e-7,
    high: float = 10.0,
    steps: int = 100,
    say: Callable[[str], None] = lambda text: None,
) -> RateSearch:
    """Try learning rates on a model of its own.

    Each step has a learning rate that is a constant factor above the one before. The steps end
    where the smoothed loss is four times its best value. Parts of the net with learning rates of
    their own keep their ratio.

    Args:
        config: The settings of the run; optimizer.lr is not read.
        data: The dataset folder.
        device: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:N".
        low: The first learning rate.
        high: The last learning rate.
        steps: The number of steps, at least 20.
        say: Gets a message if the steps take long.

    Returns:
        Rates, losses and the suggestion of fastai's `valley`.

    Raises:
        ConfigError: A limit or the number of steps is not allowed.
        SlipformError: The loss is not finite from the beginning.
    """
    if not (0 < low < high < math.inf and steps >= 20):
        raise ConfigError(
            f"rates {low:g} to {high:g} in {steps} steps: give 0 < low < high, and 20 steps or more"
        )
    process = Process(pick_device(device, 0))
    with torch.random.fork_rng(devices=_cuda(process.device)):
        rates, losses, smoothed = _try_rates(config, Path(data), process, low, high, steps, say)
    kept = (
        slice(steps // 10, -_CUT_LAST) if len(losses) >= steps // 10 + _CUT_LAST + 4 else slice(0)
    )
    if len(rates[kept]) < 4:
        raise SlipformError(
            f"the loss diverged after {len(losses)} steps, at a learning rate of {rates[-1]:.3g}:"
            " give a smaller --low"
        )
    inner = smoothed[kept]
    slopes = [after - before for before, after in pairwise(inner)]
    return RateSearch(
        tuple(rates), tuple(losses), tuple(smoothed),
        suggestion=rates[kept][valley(inner)],
        steepest=rates[kept][slopes.index(min(slopes))],
    )  # fmt: skip


def valley(losses: Sequence[float]) -> int:
    """The place in the middle of the longest valley of losses, as fastai's `valley`.

    The valley is the longest falling subsequence; the place is half of a third after a third of it.

    Args:
        losses: Smoothed losses, at least one.
    """
    lengths, end, start = [1] * len(losses), 0, 0
    for i in range(1, len(losses)):
        falling = [lengths[j] for j in range(i) if losses[i] < losses[j]]
        lengths[i] = 1 + max(falling, default=0)
        if lengths[i] > lengths[end]:
            end, start = i, i - lengths[i]
    third = (end - start) / 3
    return max(0, start + int(third) + int(third / 2))


def _try_rates(
    config: RunConfig, data: Path, process: Process, low: float, high: float, steps: int,
    say: Callable[[str], None],
) -> tuple[list[float], list[float], list[float]]:  # fmt: skip
    """The rates, losses and smoothed losses of all steps until the loss diverges."""
    manifest = read_manifest(data)
    config = config.replace("data.folder", source_of(data)).replace("train.auto_seconds", 0.0)
    config = config.replace("train.compile", "off").replace("optimizer.lr", 1.0)
    set_up(config.train, process.device)
    config, _ = without_auto(config, manifest, process, [])
    rates: list[float] = []
    losses: list[float] = []
    smoothed: list[float] = []
    with open_training_data(config, None, process) as loader:
        state = build_state(
            config, num_classes=manifest.num_classes, process=process,
            first_images=lambda: first_images(loader), labels=Labels.of(loader),
        )  # fmt: skip
        set_train_mode(state)
        batches, average = _endless(loader), MovingAverage(_SMOOTHING)
        began = 0.0
        for step in range(steps):
            if step == 1:
                began = time.monotonic()  # the first step also compiles kernels
            elif step == _TIMED:
                seconds = (time.monotonic() - began) / (_TIMED - 1)
                if (left := seconds * (steps - step)) > _LONG:
                    each = number_text(seconds, 2)
                    say(f"a step takes {each} s: {_length(left)} for the {steps} steps")
            rate = low * (high / low) ** (step / (steps - 1))
            set_learning_rate(state.optimizers, rate)
            loss = float(train_step(state, batches, config.train.accumulate).loss)
            if not math.isfinite(loss):
                break
            rates.append(rate)
            losses.append(loss)
            smoothed.append(average.add(loss))
            if smoothed[-1] > _DIVERGED * min(smoothed):
                break
    if not losses:
        raise SlipformError("the loss of the first step is not finite: look at the settings")
    return rates, losses, smoothed


def _length(seconds: float) -> str:
    return f"about {seconds / 60:.0f} minutes" if seconds >= 90 else f"about {seconds:.0f} s"


def _endless(loader: Loader) -> Iterator[Batch]:
    while True:
        yield from loader


def _cuda(device: torch.device) -> list[torch.device]:
    return [device] if device.type == "cuda" else []
