"""The classes of a dataset before it is written: their balance, and suspicious facts.

In: a SampleSource. Out: lines for the account.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from statistics import median

import numpy as np

from slipform.pipelines.errors import printable
from slipform.preprocess.listing import some
from slipform.preprocess.source import Samples, SampleSource

__all__ = ["balance"]

_UNEVEN = 10  # times as many images in the largest class as in the smallest


def balance(source: SampleSource) -> list[str]:
    """Describe the classes.

    Args:
        source: The dataset.

    Returns:
        Lines without control characters. Important ones begin with "warning".
    """
    names = source.classes
    counts = {split: _counts(samples, len(names)) for split, samples in source.splits.items()}
    lines = _alike(names)
    train = counts["train"]
    present = [label for label in range(len(names)) if train[label]]
    if never := [names[label] for label in range(len(names)) if not train[label]]:
        lines.append(f"warning: {len(never)} classes have no training image: {some(never)}")
    if len(names) == 1:
        lines.append("warning: there is only one class, so a net has nothing to learn")
    if len(present) > 1:
        lines += _spread(names, train, present)
    for split, found in counts.items():
        missing = [names[label] for label in present if not found[label]]
        if missing:
            lines.append(f"note: {len(missing)} classes have no image in {split}: {some(missing)}")
    return lines


def _counts(samples: Samples, num_classes: int) -> list[int]:
    """Images per class."""
    if samples.table is not None:
        return samples.table.class_counts(num_classes)
    return [int(count) for count in np.bincount(samples.labels, minlength=num_classes)]


def _spread(names: Sequence[str], train: list[int], present: list[int]) -> list[str]:
    """The smallest and the largest class of train."""
    smallest = min(present, key=train.__getitem__)
    largest = max(present, key=train.__getitem__)
    lines = [
        f"images per class in train: {train[smallest]:,} ({printable(names[smallest])}) to"
        f" {train[largest]:,} ({printable(names[largest])}), median"
        f" {median(train[label] for label in present):g}"
    ]
    if train[largest] >= _UNEVEN * train[smallest]:
        lines.append(
            f"warning: the largest class has {train[largest] / train[smallest]:.0f} times as many"
            " images as the smallest one"
        )
    single = sum(train[label] == 1 for label in present)
    if single > len(present) / 2:
        lines.append(
            f"warning: {single:,} of {len(present):,} classes have one training image. Are the"
            " labels texts, or numbers of images?"
        )
    return lines


def _alike(names: Sequence[str]) -> list[str]:
    """Names that differ in case, spaces, underscores, hyphens or Unicode forms only."""
    groups: dict[str, list[str]] = {}
    for name in names:
        plain = unicodedata.normalize("NFKC", name).casefold()
        groups.setdefault(re.sub(r"[\s_\-]+", " ", plain).strip(), []).append(name)
    found = [" and ".join(group) for group in groups.values() if len(group) > 1]
    return [f"warning: classes whose names are almost the same: {some(found)}"] if found else []
