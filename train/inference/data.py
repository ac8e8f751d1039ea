"""Evaluation of a trained model on a dataset other than the one of its run.

In: the manifest of the run and a dataset folder. Out: an error if the model cannot be evaluated on
it, batches with the model's labels, and notes about the differences.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from slipform.pipelines.batch import IGNORED_LABEL, Batch, counted
from slipform.pipelines.loader import Loader
from slipform.pipelines.manifest import Manifest, read_manifest
from slipform.pipelines.mirror.folder import local_folder, source_of
from slipform.train.config.run_config import RunConfig
from slipform.train.run.identity import dataset_folder, images_in, some, split_difference
from slipform.train.step.data import has_images

__all__ = ["data_notes", "dataset_of", "first_image", "first_split", "labeled", "settings_for"]


def dataset_of(config: RunConfig, data: Path | str | None) -> Path:
    """The dataset folder that a model is evaluated on.

    Args:
        config: The settings of the run.
        data: A folder that prep wrote, or its URL. None: the dataset of the run.

    Returns:
        The folder; for a URL, its mirror on this machine.
    """
    return dataset_folder(config) if data is None else local_folder(data)


def settings_for(config: RunConfig, own: Manifest, data: Path | str | None) -> RunConfig:
    """The settings with which the splits of a dataset are opened for a model.

    Args:
        config: The settings of the run.
        own: The manifest of the dataset that the run was trained on.
        data: A folder that prep wrote, or its URL. None: the dataset of the run.

    Returns:
        The settings with data.folder, and without data.fold if these are other images than those
        that the run has divided.

    Raises:
        DatasetError: There is no such dataset.
    """
    folder = dataset_of(config, data)
    config = config.replace("data.folder", str(folder))
    if data is None or not config.data.fold or _has_same_folds(own, read_manifest(folder)):
        return config
    return config.replace("data.fold", "")


def _has_same_folds(own: Manifest, given: Manifest) -> bool:
    """Whether a dataset has the training and validation images of a run: folds are then equal."""
    own_splits, splits = (
        [name for name in ("train", "val") if name in manifest.splits] for manifest in (own, given)
    )
    return own_splits == splits and images_in(own, splits) == images_in(given, splits)


def first_split(config: RunConfig) -> str | None:
    """The split on which a model is judged: "test", or "val" if test has no images.

    Args:
        config: The result of `settings_for`.

    Returns:
        None: neither has images.
    """
    manifest = read_manifest(config.data.folder)
    return next((s for s in ("test", "val") if has_images(config, manifest, s)), None)


def first_image(loader: Loader) -> Tensor | None:
    """The first image of a split.

    Args:
        loader: The loader of the split.

    Returns:
        A copy, normalized, [1, 3, S, S]; None if the split has no images.
    """
    return next((batch.images[:1].clone() for batch in loader), None)


def data_notes(own: Manifest, data: Path, split: str) -> list[str]:
    """Differences between a dataset and the run's dataset.

    Args:
        own: The manifest of the dataset that the run was trained on.
        data: The dataset folder that the model is evaluated on.
        split: "train", "val" or "test".

    Returns:
        One line if the data lacks classes of the model, and one if its split has other images.

    Raises:
        DatasetError: There is no such dataset.
    """
    given, place = read_manifest(data), source_of(data)
    notes = []
    missing = [name for name in own.classes if name not in given.classes]
    if missing:
        known = own.num_classes - len(missing)
        notes.append(
            f"{place} has {known} of the {own.num_classes} classes of the run; it has no"
            f" {some(missing)}"
        )
    if different := split_difference(own, given, split):
        notes.append(f"{place} is not the dataset that the run was trained on: {different}")
    return notes


def labeled(loader: Loader, own: Sequence[str]) -> Iterable[Batch]:
    """The batches of a loader with the model's labels, or -100.

    Args:
        loader: The loader of a split whose dataset `check_data` accepts: it may have some of the
            model's classes, in any order.
        own: The model's classes.
    """
    given = loader.manifest.classes
    if given == own:
        return loader
    place = {name: number for number, name in enumerate(own)}
    places = torch.tensor([place[name] for name in given], device=loader.device)
    return _relabeled(loader, places, len(own))


def _relabeled(batches: Iterable[Batch], places: Tensor, num_classes: int) -> Iterator[Batch]:
    for batch in batches:
        counts = counted(batch.labels)
        if batch.labels.ndim == 1:
            labels = torch.where(counts, places[batch.labels.clamp(min=0)], batch.labels)
        else:
            labels = batch.labels.new_zeros(len(batch), num_classes)
            labels[:, places] = batch.labels
            labels = torch.where(counts[:, None], labels, float(IGNORED_LABEL))
        yield replace(batch, labels=labels)
