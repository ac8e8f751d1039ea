"""Comparison of a dataset with the one that a run was trained on.

In: two manifests. Out: their differences, as text. Classes are compared by name and order, and
splits by labels and checksums of their samples. Their betons may differ: in shards, or because an
older version wrote them. The path of the folder is not compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from slipform.pipelines.errors import ConfigError, DatasetError, printable
from slipform.pipelines.loader import Loader
from slipform.pipelines.manifest import Manifest, read_manifest
from slipform.pipelines.mirror.folder import local_folder
from slipform.pipelines.remote.client import is_remote
from slipform.train.config.run_config import RunConfig

__all__ = [
    "check_data", "check_dataset", "check_unchanged", "dataset_folder", "differences", "images_in",
    "images_of", "some", "split_difference",
]  # fmt: skip


def dataset_folder(config: RunConfig) -> Path:
    """The dataset folder of a run; for a URL, its mirror on this machine.

    Args:
        config: The settings of the run.

    Raises:
        DatasetError: The folder is gone, so that the user must give another one.
        StorageError: The object store cannot be read.
    """
    folder = config.data.folder
    if not is_remote(folder) and not Path(folder).is_dir():
        raise DatasetError(
            f"{folder}, the dataset of the run, is not a folder: give the folder with it as DATA"
        )
    return local_folder(folder)


def check_unchanged(config: RunConfig, manifest: Manifest, run: Path) -> None:
    """Check that the dataset folder still has the dataset of an open run.

    A folder that was deleted is no error: the run has its files open. In an object store, the
    samples that come are compared with their checksums instead.

    Args:
        config: The settings of the run.
        manifest: The manifest of the dataset when the run was opened.
        run: The run folder.

    Raises:
        DatasetError: Another dataset is there.
    """
    folder = config.data.folder
    if is_remote(folder):
        return
    try:
        found = differences(manifest, read_manifest(folder))
    except DatasetError:
        return
    if found:
        raise DatasetError(
            f"the dataset in {folder} was replaced while this run trained on it:"
            f" {'; '.join(found)}. The checkpoint is of the old dataset. Restore that and continue"
            f" with: train --resume {run}. To continue with the new dataset, add --other-data"
        )


def differences(own: Manifest, given: Manifest) -> list[str]:
    """The differences between a dataset and the run's dataset.

    Args:
        own: The manifest in the run folder.
        given: The manifest of the dataset.

    Returns:
        A text for each difference; empty if they are equal.
    """
    found = []
    if own.classes != given.classes:
        found.append(_of_classes(own.classes, given.classes))
    names = dict.fromkeys((*own.splits, *given.splits))
    found += [text for name in names if (text := split_difference(own, given, name))]
    if not found and (own.mean, own.std) != (given.mean, given.std):
        found.append("mean and std differ, so its images are normalized in another way")
    return found


def split_difference(own: Manifest, given: Manifest, name: str) -> str:
    """The difference between a split of a dataset and that of the run's dataset.

    Args:
        own: The manifest in the run folder.
        given: The manifest of the dataset.
        name: "train", "val" or "test".

    Returns:
        The difference as text; "" if there is none, or if no dataset has the split.
    """
    if name not in given.splits and name not in own.splits:
        return ""  # val of a run with data.fold, whose dataset has only train
    if name not in given.splits or name not in own.splits:
        return f"{name} is missing {'now' if name in own.splits else 'in the run'}"
    before, now = own.splits[name], given.splits[name]
    if before.num_samples != now.num_samples:
        return f"{name} had {before.num_samples} images, now {now.num_samples}"
    if before.labels_sha256 != now.labels_sha256:
        return f"{name} has other labels"
    if before.sha256 == now.sha256:
        return ""
    # The same samples in one file or in shards, with or without entry points (`jpeg_entries`).
    same_index = before.index_sha256 != "" and before.index_sha256 == now.index_sha256
    return "" if same_index else f"{name} has other images (another SHA-256)"


def _of_classes(own: list[str], given: list[str]) -> str:
    if len(own) != len(given):
        return f"the run has {len(own)} classes, the data {len(given)}"
    if sorted(own) == sorted(given):
        return "the classes are in another order"
    changed = [(a, b) for a, b in zip(own, given, strict=True) if a != b]
    listed = ", ".join(f'"{printable(a)}" is now "{printable(b)}"' for a, b in changed[:5])
    return f"other classes: {listed}{', ...' if len(changed) > 5 else ''}"


def check_dataset(out: Path, data: str, manifest: Manifest, other_data: bool) -> list[str]:
    """Compare the dataset that is given to a resumed run with the run's dataset.

    Args:
        out: The run folder.
        data: The given dataset folder or its URL, for the messages.
        manifest: Its manifest.
        other_data: Whether another dataset with as many classes is allowed.

    Returns:
        Messages for the user; empty if the datasets are equal.

    Raises:
        ConfigError: The datasets differ, and that is not allowed.
    """
    own = read_manifest(out)
    found = differences(own, manifest)
    if not found:
        return []
    told = f"{data} is not the dataset that {out} was trained on: {'; '.join(found)}"
    if own.num_classes != manifest.num_classes:
        raise ConfigError(
            f"{told}. A run cannot continue with another number of classes: start a new run, with"
            f" model.weights = {out} if you like."
        )
    if not other_data:
        raise ConfigError(
            f"{told}. Give the run's dataset as DATA, start a new run, or add --other-data: the run"
            " then keeps its weights, and continues with the classes and images of this dataset."
        )
    return [f"{told}. Continuing with it and its classes, because --other-data is given"]


def check_data(own: Manifest, given: Manifest, data: str, run: Path) -> None:
    """Check that a model can be evaluated on a dataset.

    Args:
        own: The manifest of the dataset that the run was trained on.
        given: The manifest of the dataset.
        data: The dataset folder or its URL, for the text of the error.
        run: The run folder, for the text of the error.

    Raises:
        ConfigError: The dataset has a class that the model does not have. Or one of them has
            several labels for each image, and the other does not.
    """
    several = [one.labels == "multi" for one in (own, given)]
    if several[0] != several[1]:
        words = {True: "several labels for each image", False: "one label for each image"}
        raise ConfigError(
            f"{data} has {words[several[1]]}, and the run {run} has learned {words[several[0]]}:"
            " give a dataset like that of the run"
        )
    known = set(own.classes)
    foreign = [name for name in given.classes if name not in known]
    if foreign:
        raise ConfigError(
            f"{data} has {len(foreign)} of {given.num_classes} classes that the run {run} does not"
            f" have: {some(foreign)}. The run's classes: {some(own.classes)}."
        )


def some(names: Sequence[str]) -> str:
    """The first names of a list, for the text of an error.

    Args:
        names: The names; after five of them the text has "...".
    """
    return ", ".join(map(repr, names[:5])) + (", ..." if len(names) > 5 else "")


def images_of(loader: Loader) -> str:
    """The identity of the stored images and labels of a loader; see `images_in`.

    Args:
        loader: The loader of the training split.
    """
    return images_in(loader.manifest, loader.samples.splits)


def images_in(manifest: Manifest, splits: Iterable[str]) -> str:
    """The identity of the stored images and labels of splits.

    Args:
        manifest: The manifest of a dataset.
        splits: The names of the splits.

    Returns:
        For each split the SHA-256 of labels and checksums, or of the beton where that is unknown,
        with "+" and the SHA-256 of the label table if there is one; commas between the splits.
    """
    texts = []
    for info in (manifest.split(name) for name in splits):
        table = f"+{info.labels_sha256}" if info.labels_sha256 else ""
        texts.append(f"{info.index_sha256 or info.sha256}{table}")
    return ",".join(texts)
