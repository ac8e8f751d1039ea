"""Whether a dataset is the one that a run was trained on.

In: two manifests. Out: how they differ, in words. Classes count by name and order, splits by the
SHA-256 of their betons; where the folder lies does not count.
"""

from __future__ import annotations

from pathlib import Path

from slipform.pipelines.errors import ConfigError, printable
from slipform.pipelines.manifest import Manifest, read_manifest


def differences(own: Manifest, given: Manifest) -> list[str]:
    """How a dataset differs from the run's own.

    Args:
        own: The manifest in the run folder.
        given: The manifest of the dataset.

    Returns:
        A text for each difference; empty where they are the same.
    """
    found = []
    if own.classes != given.classes:
        found.append(_of_classes(own.classes, given.classes))
    names = dict.fromkeys((*own.splits, *given.splits))
    found += [text for name in names if (text := split_difference(own, given, name))]
    return found


def split_difference(own: Manifest, given: Manifest, name: str) -> str:
    """How one split of a dataset differs from that of the run's own.

    Args:
        own: The manifest in the run folder.
        given: The manifest of the dataset.
        name: "train", "val" or "test".

    Returns:
        The difference in words; "" where there is none.
    """
    if name not in given.splits or name not in own.splits:
        return f"{name} is missing {'now' if name in own.splits else 'in the run'}"
    before, now = own.splits[name], given.splits[name]
    if before.num_samples != now.num_samples:
        return f"{name} had {before.num_samples} images, now {now.num_samples}"
    return "" if before.sha256 == now.sha256 else f"{name} has other images (another SHA-256)"


def _of_classes(own: list[str], given: list[str]) -> str:
    if len(own) != len(given):
        return f"the run has {len(own)} classes, the data {len(given)}"
    if sorted(own) == sorted(given):
        return "the classes are in another order"
    changed = [(a, b) for a, b in zip(own, given, strict=True) if a != b]
    listed = ", ".join(f'"{printable(a)}" is now "{printable(b)}"' for a, b in changed[:5])
    return f"other classes: {listed}{', ...' if len(changed) > 5 else ''}"


def check_dataset(out: Path, data: Path, manifest: Manifest, other_data: bool) -> list[str]:
    """Compare the data of a resumed run with the run's own.

    Args:
        out: The run folder.
        data: The dataset folder that is given now.
        manifest: The manifest of `data`.
        other_data: Another dataset of as many classes is allowed.

    Returns:
        What to say; empty where the data are the run's own.

    Raises:
        ConfigError: They are not, and that is not allowed.
    """
    own = read_manifest(out)
    found = differences(own, manifest)
    if not found:
        return []
    told = f"{data} is not the dataset that {out} was trained on: {'; '.join(found)}"
    if own.num_classes != manifest.num_classes:
        raise ConfigError(
            f"{told}. A run cannot go on with another number of classes: start a new one; its"
            f" model.weights may be {out}."
        )
    if not other_data:
        raise ConfigError(
            f"{told}. Give the run's own dataset as DATA, start a new run, or go on with this one"
            " and --other-data: the weights stay, and classes, images and results are those of"
            " this dataset from now on."
        )
    return [f"{told}. Going on with it, and with its classes, since --other-data is given"]
