"""The data that a trained model is evaluated on: may be another dataset than the run's own.

In: the run's manifest and a dataset folder. Out: where the dataset's classes stand among the
model's, batches with the model's labels, and what to say about the difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from slipform.pipelines.batch import IGNORED_LABEL, Batch
from slipform.pipelines.errors import ConfigError
from slipform.pipelines.manifest import Manifest, read_manifest
from slipform.train.run.identity import split_difference

__all__ = ["class_places", "data_notes", "relabeled"]


def class_places(own: list[str], given: Sequence[str], data: Path, run: Path) -> list[int]:
    """Where the classes of a dataset stand among the model's.

    Args:
        own: The model's classes.
        given: The dataset's classes.
        data: The dataset folder, for the error's text.
        run: The run folder, for the error's text.

    Returns:
        For each class of the dataset, its position among the model's.

    Raises:
        ConfigError: The dataset has a class that the model does not know.
    """
    place = {name: number for number, name in enumerate(own)}
    foreign = [name for name in given if name not in place]
    if foreign:
        raise ConfigError(
            f"{data} has {len(foreign)} of {len(given)} classes that the run {run} does not know:"
            f" {_some(foreign)}. Its classes: {_some(own)}."
        )
    return [place[name] for name in given]


def data_notes(own: Manifest, data: Path, split: str) -> list[str]:
    """What to know before a result is compared with the run's own.

    Args:
        own: The manifest of the dataset that the run was trained on.
        data: The dataset folder that the model is evaluated on.
        split: "train", "val" or "test".

    Returns:
        A line for each: the data has not all classes of the model; its split is another one.

    Raises:
        DatasetError: There is no such dataset.
    """
    given = read_manifest(data)
    notes = []
    missing = [name for name in own.classes if name not in given.classes]
    if missing:
        known = own.num_classes - len(missing)
        notes.append(
            f"{data} has {known} of the {own.num_classes} classes of the run; it has no"
            f" {_some(missing)}"
        )
    if different := split_difference(own, given, split):
        notes.append(f"{data} is not the dataset that the run was trained on: {different}")
    return notes


def relabeled(batches: Iterable[Batch], places: Tensor) -> Iterator[Batch]:
    """Batches with the dataset's labels turned into the model's.

    Args:
        batches: Labels are classes of the dataset, or -100.
        places: int64 [C], of `class_places`, on the batches' device.

    Yields:
        The same batches; -100 stays.
    """
    for batch in batches:
        labels = torch.where(
            batch.labels == IGNORED_LABEL, batch.labels, places[batch.labels.clamp(min=0)]
        )
        yield replace(batch, labels=labels)


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (", ..." if len(names) > 5 else "")
