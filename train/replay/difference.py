"""The first step at which two runs differ, and in what: order, plan, pixels, labels or weights.

In: two run folders. Out: the step, and a sentence. Each stage is compared only where those before
it are equal: batches of other samples have other pixels, too. Pixels are made on the CPU, also
those of runs on a GPU.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from slipform.pipelines.errors import ConfigError, DatasetError
from slipform.pipelines.loader import Loader
from slipform.pipelines.order import EpochOrder
from slipform.pipelines.plan.mix_plan import draw_mix
from slipform.pipelines.plan.plan import Plan, draw
from slipform.train.config.image_sizes import size_at
from slipform.train.records import read_metrics
from slipform.train.replay.batches import open_rank, replayed
from slipform.train.replay.history import history, place_of_step
from slipform.train.replay.weights import first_net
from slipform.train.run.identity import images_of
from slipform.train.run.resume import differences
from slipform.train.run.segments import Place, Segment

__all__ = ["Difference", "first_difference"]

_Indices = np.ndarray[Any, np.dtype[np.int64]]

_CPU = torch.device("cpu")
# Pixels are functions of order, Plan, images and executor: the steps after a start show a
# difference.
_STEPS_OF_PIXELS = 3


@dataclass(frozen=True)
class Difference:
    """The first difference of two runs.

    Attributes:
        step: The first step that differs, counted from 1; None: the runs are equal.
        what: "order", "plan", "pixels", "labels", "weights"; "" if they are equal.
        text: What differs there.
        settings: The settings that differ at that step, name -> (of the run, of the other one).
        num_steps: The number of steps that were compared.
    """

    step: int | None
    what: str
    text: str
    settings: dict[str, tuple[Any, Any]]
    num_steps: int


def first_difference(run: Path, other: Path, data: Path | None = None) -> Difference:
    """Find the first step at which two runs differ.

    Order and Plan are computed for all steps that both runs have recorded. Pixels are made on the
    CPU and compared with their labels, for the first steps, for those after each resume with other
    settings, and for the first step whose loss differs. Weights are compared by the recorded
    losses, and before the first step.

    Args:
        run: A run folder.
        other: Another one.
        data: The dataset folder of both runs, or of one of them, if it was moved.

    Raises:
        SlipformError: A folder is no run, or its dataset is missing or was changed; or `data` is
            the dataset of no run.
    """
    pair = _histories(run, other, data)
    losses = [{x["step"]: x["loss"] for x in read_metrics(one, "step")} for one in (run, other)]
    last = min(max(one, default=0) for one in losses)
    begin = max(one[0].start.step for one in pair)  # nothing is known of the steps before
    steps = range(begin + 1, last + 1)
    differing = next((s for s in steps if losses[0].get(s) != losses[1].get(s)), None)

    def found(step: int | None, what: str, text: str) -> Difference:
        places = [place_of_step(one, step or begin + 1) for one in pair]
        settings = differences(*(place.segment.config for place in places))
        return Difference(step, what, text, settings, len(steps))

    with ExitStack() as held:
        sides = [_Side(segments, held) for segments in pair]
        # The first difference is not after the first differing loss.
        for step in range(begin + 1, (differing or last) + 1):
            places = [place_of_step(one, step) for one in pair]
            if text := _order(sides, places):
                return found(step, "order", text)
            if text := _plans(sides, places):
                return found(step, "plan", text)
            begun = max(place.segment.start.step for place in places)
            due = step - begun <= _STEPS_OF_PIXELS or step == differing
            what, text = _batches(places) if due else ("", "")
            if text:
                return found(step, what, text)
    if not begin and steps and (text := _first_weights(*(one[0] for one in pair))):
        return found(1, "weights", text)
    if differing is not None:
        a, b = (one.get(differing) for one in losses)
        text = f"the loss of step {differing} is {a}, and {b}; samples are equal, {_equal(pair)}"
        return found(differing, "weights", text)
    known = f", from step {begin + 1} on" if begin else ""
    text = f"{len(steps)} steps are equal{known}; {_equal(pair)}"
    return Difference(None, "", text, {}, len(steps))


def _histories(run: Path, other: Path, data: Path | None) -> tuple[list[Segment], list[Segment]]:
    """The segments of both runs; those with the images of `data` read them there."""
    if data is None:
        return history(run), history(other)
    found, refused = [], []
    for one in (run, other):
        try:
            found.append(history(one, data))
        except DatasetError as error:
            refused.append(error)
            found.append(history(one))
    if len(refused) == len(found):
        raise refused[0]
    return found[0], found[1]


def _equal(pair: tuple[list[Segment], list[Segment]]) -> str:
    """A text about equal pixels: what made them."""
    devices = {segment.start.device for segments in pair for segment in segments}
    other = ", which need not be those of a GPU" if devices != {"cpu"} else ""
    return f"pixels are equal as the CPU makes them{other}"


class _Side:
    """A run whose loaders stay open, one for each segment and size of images."""

    def __init__(self, segments: list[Segment], held: ExitStack) -> None:
        self._segments, self._held = segments, held
        self._loaders: dict[tuple[int, int], Loader] = {}

    def loader(self, place: Place) -> Loader:
        size = size_at(place.segment.config, place.epoch + 1)
        key = self._segments.index(place.segment), size
        if key not in self._loaders:  # "host" makes no pixels before they are asked for
            loader = open_rank(place.segment, _CPU, 0, "host", place.epoch)
            self._loaders[key] = self._held.enter_context(loader)
        return self._loaders[key]

    def samples(self, place: Place) -> tuple[_Indices, _Indices]:
        """The samples of a step, and the keys of their random numbers; in the order of
        `StepBatches.together`."""
        order: EpochOrder = self.loader(place).sequence.order
        samples, keys = [], []
        for k in range(place.count):
            for rank in range(place.segment.start.world_size):
                own = replace(order, rank=rank)
                seen = place.seen + k * place.segment.global_batch_size
                samples.append(own.batch(place.epoch, seen))
                drawn = own.draws is not None
                keys.append(own.draw_positions(seen) if drawn else samples[-1])
        return np.concatenate(samples), np.concatenate(keys)

    def plan(self, place: Place) -> Plan:
        """The Plan of all samples of a step."""
        loader, (samples, keys) = self.loader(place), self.samples(place)
        beton, seed = loader.samples.beton, place.segment.config.train.seed
        sides = beton.shapes.of(samples)
        return draw(loader.augment, keys, *sides, seed, place.epoch)

    def mixes(self, place: Place) -> list[Any]:
        """The numbers of MixUp and CutMix of each batch, as plain values."""
        loader, found = self.loader(place), []
        for k in range(place.count):
            seen = place.seen + k * place.segment.global_batch_size
            for rank in range(place.segment.start.world_size):
                own = replace(loader.sequence.order, rank=rank)
                number = own.batch_number(seen)
                plan = draw_mix(loader.augment, own.size, own.seed, place.epoch, number)
                if plan is not None:
                    numbers = plan.partner, plan.weight, plan.box
                    found.append([array.tolist() for array in numbers])
        return found


def _order(sides: list[_Side], places: list[Place]) -> str:
    a, b = (side.samples(place)[0] for side, place in zip(sides, places, strict=True))
    if len(a) != len(b):
        return f"the step has {len(a)} samples, and {len(b)}"
    if np.array_equal(a, b):
        return ""
    at = int(np.flatnonzero(a != b)[0])
    return f"sample {at} of the step is {a[at]}, and {b[at]}"


def _plans(sides: list[_Side], places: list[Place]) -> str:
    both = list(zip(sides, places, strict=True))
    if sides[0].mixes(places[0]) != sides[1].mixes(places[1]):
        return "MixUp or CutMix differs"
    given = [
        (
            side.loader(place).augment,
            images_of(side.loader(place)),
            side.samples(place)[1].tolist(),
            place.segment.config.train.seed,
            place.epoch,
        )
        for side, place in both
    ]
    if given[0] == given[1]:
        return ""  # equal arguments of a pure function
    a, b = (side.plan(place) for side, place in both)
    for field in fields(Plan):
        pair = getattr(a, field.name), getattr(b, field.name)
        if _differ(*pair):
            return f"{field.name} differs{_how_many(*pair)}"
    return ""


def _differ(a: Any, b: Any) -> bool:
    """Whether two values of a Plan differ: arrays, dataclasses of arrays, or plain values."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return type(a) is not type(b) or not np.array_equal(a, b)
    if is_dataclass(a) and type(a) is type(b):
        return any(_differ(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    return bool(a != b)


def _how_many(a: Any, b: Any) -> str:
    """The number of samples whose values differ, if each sample has its own."""
    if not isinstance(a, np.ndarray) or not isinstance(b, np.ndarray) or a.shape != b.shape:
        return ""
    many = int((a != b).reshape(len(a), -1).any(1).sum())
    return f" for {many} of {len(a)} samples"


def _batches(places: list[Place]) -> tuple[str, str]:
    """What differs in the batches of a step, "pixels" or "labels", and how; "" if nothing does."""
    a, b = (replayed(place, _CPU).together() for place in places)
    if text := _pixels(a.images, b.images):
        return "pixels", text
    if a.labels.shape != b.labels.shape:
        return "labels", f"they have the shape {tuple(a.labels.shape)}, and {tuple(b.labels.shape)}"
    other = (a.labels != b.labels).reshape(len(a), -1).any(1)
    if not bool(other.any()):
        return "", ""
    first, many = int(a.indices[other][0]), int(other.sum())
    return "labels", f"{many} of {len(a)} images have other labels, the first of them is {first}"


def _pixels(a: Tensor, b: Tensor) -> str:
    if a.dtype != b.dtype:
        return f"the images are {a.dtype}, and {b.dtype}"
    if torch.equal(a, b):
        return ""
    gap = (a.float() - b.float()).abs()
    many = int((gap.flatten(1).amax(1) > 0).sum())
    return (
        f"{many} of {len(a)} images differ, by {float(gap.max()):.3g} at most after normalization,"
        " as the CPU makes them"
    )


def _first_weights(first: Segment, second: Segment) -> str:
    """The difference of the weights before the first step.

    Returns:
        "" if there is none, or if the file of the first weights is gone.
    """
    try:
        a, b = (first_net(one).state_dict() for one in (first, second))
    except ConfigError:
        if first.config.model.weights == second.config.model.weights == "none":
            raise
        return ""
    if a.keys() != b.keys() or any(a[name].shape != b[name].shape for name in a):
        return "the nets differ"
    unequal = [name for name in a if not torch.equal(a[name], b[name])]
    return f"the first weights differ, from {unequal[0]} on" if unequal else ""
