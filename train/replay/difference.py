"""The first step at which two runs differ, and in what: order, plan, pixels or weights.

In: two run folders. Out: the step, and a sentence. Each stage is compared only where those before
it are equal: batches of other samples have other pixels, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from slipform.pipelines.errors import ConfigError
from slipform.pipelines.loader import Loader
from slipform.pipelines.plan.plan import Plan, draw, draw_mix
from slipform.train.config.image_sizes import size_at
from slipform.train.machine.distributed import Process
from slipform.train.records import read_metrics
from slipform.train.replay.batches import open_rank, replayed
from slipform.train.replay.history import Place, Segment, history, place_of_step
from slipform.train.run.resume import differences
from slipform.train.run.starts import images_of
from slipform.train.step.build import build_state

__all__ = ["Difference", "first_difference"]

_CPU = torch.device("cpu")
# Pixels are functions of order, Plan, images and executor: the steps after a start show a
# difference.
_STEPS_OF_PIXELS = 3


@dataclass(frozen=True)
class Difference:
    """The first difference of two runs.

    Attributes:
        step: The first step that differs, counted from 1; None: the runs are equal.
        what: "order", "plan", "pixels", "weights"; "" if they are equal.
        text: What differs there.
        settings: The settings that differ at that step, name -> (of the run, of the other one).
        num_steps: The number of steps that were compared.
    """

    step: int | None
    what: str
    text: str
    settings: dict[str, tuple[Any, Any]]
    num_steps: int


def first_difference(run: Path, other: Path) -> Difference:
    """Find the first step at which two runs differ.

    Order and Plan are computed for all steps that both runs have recorded. Pixels are made for the
    first steps, for those after each resume with other settings, and for the first step whose loss
    differs. Weights are compared by the recorded losses, and before the first step.

    Args:
        run: A run folder.
        other: Another one.

    Raises:
        SlipformError: A folder is no run, or its dataset is missing or was changed.
    """
    pair = history(run), history(other)
    losses = [{x["step"]: x["loss"] for x in read_metrics(one, "step")} for one in (run, other)]
    last = min(max(one, default=0) for one in losses)
    differing = next((s for s in range(1, last + 1) if losses[0].get(s) != losses[1].get(s)), None)

    def found(step: int | None, what: str, text: str) -> Difference:
        places = [place_of_step(one, step or 1) for one in pair]
        settings = differences(*(place.segment.config for place in places))
        return Difference(step, what, text, settings, last)

    with ExitStack() as held:
        sides = [_Side(segments, held) for segments in pair]
        # The first difference is not after the first differing loss.
        for step in range(1, (differing or last) + 1):
            places = [place_of_step(one, step) for one in pair]
            if text := _order(sides, places):
                return found(step, "order", text)
            if text := _plans(sides, places):
                return found(step, "plan", text)
            begun = max(place.segment.start.step for place in places)
            due = step - begun <= _STEPS_OF_PIXELS or step == differing
            if due and (text := _pixels(places)):
                return found(step, "pixels", text)
    if text := _first_weights(*(one[0] for one in pair)):
        return found(1, "weights", text)
    if differing is not None:
        a, b = (one.get(differing) for one in losses)
        text = f"the loss of step {differing} is {a}, and {b}; samples and pixels are equal"
        return found(differing, "weights", text)
    return Difference(None, "", f"{last} steps are equal", {}, last)


class _Side:
    """A run whose loaders stay open, each for one process and one size of a segment."""

    def __init__(self, segments: list[Segment], held: ExitStack) -> None:
        self._segments, self._held = segments, held
        self._loaders: dict[tuple[int, int, int], Loader] = {}

    def loader(self, place: Place, rank: int = 0) -> Loader:
        size = size_at(place.segment.config, place.epoch + 1)
        key = self._segments.index(place.segment), rank, size
        if key not in self._loaders:  # "host" makes no pixels before they are asked for
            loader = open_rank(place.segment, _CPU, rank, "host", place.epoch)
            self._loaders[key] = self._held.enter_context(loader)
        return self._loaders[key]

    def samples(self, place: Place) -> Iterator[np.ndarray[Any, np.dtype[np.int64]]]:
        """The indices of each batch of a step: all processes of the first batch, and so on."""
        size = place.segment.global_batch_size
        for k in range(place.count):
            for rank in range(place.segment.start.world_size):
                order = self.loader(place, rank).sequence.order
                yield order.batch(place.epoch, place.seen + k * size)

    def plans(self, place: Place) -> Iterator[Plan]:
        loader, seed = self.loader(place), place.segment.config.train.seed
        augment, beton = loader.sequence.augment, loader.samples.beton
        for at in self.samples(place):
            yield draw(augment, at, beton.heights[at], beton.widths[at], seed, place.epoch)

    def mixes(self, place: Place) -> list[Any]:
        """The numbers of MixUp and CutMix of each batch, as plain values."""
        config, world_size = place.segment.config, place.segment.start.world_size
        augment, size = self.loader(place).sequence.augment, int(config.train.batch_size)
        found = []
        for k in range(place.count):
            seen = place.seen + k * place.segment.global_batch_size
            for rank in range(world_size):
                number = seen // size + rank
                plan = draw_mix(augment, size, config.train.seed, place.epoch, number)
                found.append(plan and (plan.weight, plan.box, plan.partner.tolist()))
        return found


def _order(sides: list[_Side], places: list[Place]) -> str:
    a, b = (np.concatenate(list(s.samples(p))) for s, p in zip(sides, places, strict=True))
    if len(a) != len(b):
        return f"the step has {len(a)} samples, and {len(b)}"
    if np.array_equal(a, b):
        return ""
    at = int(np.flatnonzero(a != b)[0])
    return f"sample {at} of the step is {a[at]}, and {b[at]}"


def _plans(sides: list[_Side], places: list[Place]) -> str:
    augments = [s.loader(p).sequence.augment for s, p in zip(sides, places, strict=True)]
    images = [images_of(s.loader(p)) for s, p in zip(sides, places, strict=True)]
    given = [
        (augment, image, place.segment.config.train.seed, place.epoch)
        for augment, image, place in zip(augments, images, places, strict=True)
    ]
    mixes = bool(augments[0].mixup or augments[0].cutmix)
    sizes = [place.segment.config.train.batch_size for place in places]
    if images[0] and given[0] == given[1] and (not mixes or sizes[0] == sizes[1]):
        return ""  # equal arguments of pure functions
    plans = [list(s.plans(p)) for s, p in zip(sides, places, strict=True)]
    for field in fields(Plan):
        pairs = [[getattr(plan, field.name) for plan in one] for one in plans]
        if any(_differ(a, b) for a, b in zip(*pairs, strict=True)):
            return f"{field.name} differs{_how_many(*pairs)}"
    if sides[0].mixes(places[0]) != sides[1].mixes(places[1]):
        return "MixUp or CutMix differs"
    return ""


def _differ(a: Any, b: Any) -> bool:
    """Whether two values of a Plan differ: arrays, dataclasses of arrays, or plain values."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return type(a) is not type(b) or not np.array_equal(a, b)
    if is_dataclass(a) and type(a) is type(b):
        return any(_differ(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    return bool(a != b)


def _how_many(a: list[Any], b: list[Any]) -> str:
    """The number of samples whose values differ, if each sample has its own."""
    if not all(isinstance(one, np.ndarray) for one in (*a, *b)):
        return ""
    first, second = np.concatenate(a), np.concatenate(b)
    if first.shape != second.shape:
        return ""
    many = int((first != second).reshape(len(first), -1).any(1).sum())
    return f" for {many} of {len(first)} samples"


def _pixels(places: list[Place]) -> str:
    a, b = (replayed(place, _CPU).together().images for place in places)
    if a.dtype != b.dtype:
        return f"the images are {a.dtype}, and {b.dtype}"
    if torch.equal(a, b):
        return ""
    gap = (a.float() - b.float()).abs()
    many = int((gap.flatten(1).amax(1) > 0).sum())
    return (
        f"{many} of {len(a)} images differ, by {float(gap.max()):.3g} at most after normalization"
    )


def _first_weights(first: Segment, second: Segment) -> str:
    """The difference of the weights before the first step.

    Returns:
        "" if there is none, or if the file of the first weights is gone.
    """
    try:
        a, b = _weights_of(first), _weights_of(second)
    except ConfigError:
        if first.config.model.weights == second.config.model.weights == "none":
            raise
        return ""
    if a.keys() != b.keys() or any(a[name].shape != b[name].shape for name in a):
        return "the nets differ"
    unequal = [name for name in a if not torch.equal(a[name], b[name])]
    return f"the first weights differ, from {unequal[0]} on" if unequal else ""


def _weights_of(segment: Segment) -> dict[str, torch.Tensor]:
    """The weights before the first step of a run."""
    with open_rank(segment, _CPU, 0, "host") as loader:
        state = build_state(
            segment.config,
            num_classes=loader.num_classes,
            process=Process(_CPU),
            first_images=lambda: next(iter(loader)).images.clone(),
            on_load=lambda _: None,
        )
    return state.model.state_dict()
