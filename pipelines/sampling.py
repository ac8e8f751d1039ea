"""Which samples an epoch has: each once, or drawn at random by weights.

In: a setting or an array, and the labels of a split. Out: `Draws`, from which `EpochOrder` takes
the samples of an epoch. They are a pure function of (seed, epoch).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from slipform.pipelines.errors import ConfigError, unknown
from slipform.pipelines.label_table import LabelTable
from slipform.pipelines.plan.philox import order_uniforms
from slipform.pipelines.toml_text import shown

__all__ = ["Draws", "Sampling", "by_name", "make_draws"]

Sampling = str | Mapping[str, float] | npt.NDArray[Any]


class Draws:
    """Draws with replacement: the probability of a sample is its weight / the sum of all weights.

    The distribution is that of torch.utils.data.WeightedRandomSampler.

    Args:
        weights: float64 [N], 0 or more.
        name: Their name in `Loader.state_dict`.

    Attributes:
        name: As given.

    Raises:
        ConfigError: A weight is negative or not finite, all are 0, or their sum is too large.
    """

    def __init__(self, weights: npt.NDArray[np.float64], name: str) -> None:
        _check_weights("sampling", weights)
        with np.errstate(over="ignore"):
            self.name, self._ends = name, np.cumsum(weights)
        if len(weights) and not 0 < self._ends[-1] < np.inf:
            why = "the sum of the weights is too large" if self._ends[-1] else "all weights are 0"
            raise ConfigError(f"sampling: {why}, so no sample can be drawn. Give other weights.")
        # The present epoch and the next one, which is prefetched by another thread.
        self._kept: dict[tuple[int, int], npt.NDArray[np.int64]] = {}

    def samples(self, seed: int, epoch: int) -> npt.NDArray[np.int64]:
        """The samples of an epoch, in order.

        Args:
            seed: The seed.
            epoch: The epoch, from 0.

        Returns:
            int64 [N]. Some samples are in it several times, others not at all. Do not write to it:
            it is kept for the next call.
        """
        kept, key = self._kept, (seed, epoch)
        if (found := kept.get(key)) is None:
            found = self._draw(seed, epoch)
            # Another dictionary in one step: other threads read and write it, too.
            self._kept = {**dict(list(kept.items())[-1:]), key: found}
        return found

    def _draw(self, seed: int, epoch: int) -> npt.NDArray[np.int64]:
        total = self._ends[-1] if len(self._ends) else 0.0
        points = order_uniforms(seed, epoch, len(self._ends)) * total
        # A sample of weight 0 has an empty interval, which side="right" never finds. A point that
        # is rounded to the end belongs to the last sample with a positive weight.
        found = np.searchsorted(self._ends, points, side="right")
        last = int(np.searchsorted(self._ends, total, side="left")) if len(self._ends) else 0
        return np.minimum(found, last)


def make_draws(
    sampling: Sampling,
    labels: npt.NDArray[np.int64],
    table: LabelTable | None,
    classes: Sequence[str],
) -> Draws | None:
    """Make the draws of a split.

    Args:
        sampling: "all": each sample once an epoch. "balanced": the weight of a sample is 1 / the
            number of samples with its label. A table: class -> weight; other classes have 1. An
            array: float [N], a weight for each sample. A sample with several labels has the
            largest of their weights. Samples without labels count as another class: "balanced"
            draws it as often as the others, and with a table its weight is 1.
        labels: int64 [N], a class for each sample.
        table: Several labels for each sample; None: `labels` has all.
        classes: The names of the classes.

    Returns:
        The draws; None for "all".

    Raises:
        ConfigError: `sampling` is no such value, or names a class that does not exist.
    """
    if isinstance(sampling, str) and sampling == "all":
        return None
    if isinstance(sampling, Mapping):
        of_class = np.append(by_name("sampling", sampling, classes), 1.0)
        pairs = sorted((name, float(weight)) for name, weight in sampling.items())
        return Draws(_of_samples(of_class, labels, table), str(pairs))
    if isinstance(sampling, str):
        if sampling != "balanced":
            raise unknown("sampling", sampling, ("all", "balanced"))
        counts = _counts(labels, table, len(classes))
        return Draws(_of_samples(1.0 / counts.clip(1), labels, table), "balanced")
    try:
        weights = np.asarray(sampling)
    except ValueError:  # lists of different lengths
        weights = np.array(None)
    if weights.shape != labels.shape or weights.dtype.kind not in "fiu":
        raise ConfigError(
            f"sampling = array {weights.dtype} {weights.shape}: give a weight for each of the"
            f' {len(labels)} samples, a table of classes, "balanced" or "all"'
        )
    weights = weights.astype(np.float64)
    return Draws(weights, hashlib.sha256(weights.tobytes()).hexdigest())


def by_name(
    what: str, given: Mapping[str, float], classes: Sequence[str]
) -> npt.NDArray[np.float64]:
    """A number for each class, from a table with the names of classes.

    Args:
        what: What the table is, for the error.
        given: Class -> number.
        classes: The names of the classes.

    Returns:
        float64 [C]; 1 for a class that the table does not name.

    Raises:
        ConfigError: There is no such class, or a number is negative or not finite.
    """
    place = {name: number for number, name in enumerate(classes)}
    values = np.ones(len(classes))
    for name, value in given.items():
        if name not in place:
            raise unknown("class", name, classes, where=f"in {what}")
        try:
            values[place[name]] = float(value)
        except (TypeError, ValueError):
            raise ConfigError(f"{what}.{name} = {shown(value)}: give a number, 0 or more") from None
    _check_weights(what, values)
    return values


def _check_weights(what: str, weights: npt.NDArray[np.float64]) -> None:
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ConfigError(f"{what}: give weights that are finite, and 0 or more")


def _counts(
    labels: npt.NDArray[np.int64], table: LabelTable | None, num_classes: int
) -> npt.NDArray[np.int64]:
    """int64 [C + 1], the samples of each class; the last entry: those without labels."""
    if table is None or table.kind == "soft":
        return np.bincount(labels, minlength=num_classes + 1)
    empty = table.num_samples - len(np.unique(table.rows["sample"]))
    return np.append(np.bincount(table.rows["class"], minlength=num_classes), empty)


def _of_samples(
    of_class: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], table: LabelTable | None
) -> npt.NDArray[np.float64]:
    """The weights of samples, from those of the classes and of samples without labels."""
    if table is None or table.kind == "soft":
        return of_class[labels]
    weights = np.full(table.num_samples, -1.0)
    np.maximum.at(weights, table.rows["sample"], of_class[table.rows["class"]])
    return np.where(weights < 0, of_class[-1], weights)
