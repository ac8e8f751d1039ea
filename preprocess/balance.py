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
# The names that Windows, macOS and Linux give to new folders and to copies.
_NEW = re.compile(r"(new|untitled) folder( ?\(?\d+\)?)?", re.IGNORECASE)
_COPY = re.compile(r"( - copy|[ _]copy)( ?\(\d{1,2}\))?$| ?\(\d{1,2}\)$", re.IGNORECASE)


def balance(source: SampleSource) -> list[str]:
    """Describe the classes.

    Args:
        source: The dataset.

    Returns:
        Lines without control characters. Important ones begin with "warning".
    """
    names = source.classes
    counts = {split: _counts(samples, len(names)) for split, samples in source.splits.items()}
    lines = _suspicious(names)
    train = counts["train"]
    present = [label for label in range(len(names)) if train[label]]
    absent = [label for label in range(len(names)) if not train[label]]
    shared = _with_a_share(source.splits["train"])
    if never := [names[label] for label in absent if label not in shared]:
        lines.append(f"warning: {_have(len(never))} no training image: {some(never)}")
    if small := [names[label] for label in absent if label in shared]:
        lines.append(
            f"note: {_have(len(small))} the largest share of no training image: {some(small)}"
        )
    if len(names) == 1:
        lines.append("warning: there is only one class, so a net has nothing to learn")
    if len(present) > 1:
        lines += _spread(names, train, present, "by largest share, " if shared else "")
    for split, found in counts.items():
        missing = [names[label] for label in present if not found[label]]
        if missing:
            lines.append(f"note: {_have(len(missing))} no image in {split}: {some(missing)}")
    return lines


def _have(number: int) -> str:
    return "1 class has" if number == 1 else f"{number:,} classes have"


def _with_a_share(samples: Samples) -> set[int]:
    """The classes that have a share of an image. Empty where images have no shares."""
    if samples.table is None or samples.table.kind != "soft":
        return set()
    rows = samples.table.rows
    return set(rows["class"][rows["value"] > 0].tolist())


def _counts(samples: Samples, num_classes: int) -> list[int]:
    """Images per class."""
    if samples.table is not None:
        return samples.table.class_counts(num_classes)
    return [int(count) for count in np.bincount(samples.labels, minlength=num_classes)]


def _spread(names: Sequence[str], train: list[int], present: list[int], how: str) -> list[str]:
    """The smallest and the largest class of train."""
    smallest = min(present, key=train.__getitem__)
    largest = max(present, key=train.__getitem__)
    lines = [f"images per class in train: {how}{train[smallest]:,} in each class"]
    if train[largest] > train[smallest]:
        lines = [
            f"images per class in train: {how}{train[smallest]:,} ({printable(names[smallest])}) to"
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


def _suspicious(names: Sequence[str]) -> list[str]:
    """Names that are almost the same, and names that programs give to new folders and copies."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_plain(name), []).append(name)
    alike = [" and ".join(group) for group in groups.values() if len(group) > 1]
    given = [name for name in names if _NEW.fullmatch(name.strip()) or _COPY.search(name)]
    return [
        *([f"warning: classes whose names are almost the same: {some(alike)}"] if alike else []),
        *([f"note: names of new or copied folders as classes: {some(given)}"] if given else []),
    ]


def _plain(name: str) -> str:
    """A name without case, spaces, underscores, hyphens, marks of a copy and the s of a plural."""
    plain = unicodedata.normalize("NFKC", _COPY.sub("", name)).casefold()
    plain = re.sub(r"[\s_\-]+", " ", plain).strip()
    return plain[:-1] if len(plain) > 3 and plain.endswith("s") and plain[-2] != "s" else plain
