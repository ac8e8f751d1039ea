"""The division of samples into splits.

In: samples with labels, and a rule. Out: sorted indices, int64. The same seed gives the same split
on every machine with the same version of numpy (PCG64).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from slipform.preprocess.source import Divisible, Labels, Samples

__all__ = [
    "canonical",
    "describe",
    "divide",
    "divide_samples",
    "per_class",
    "split_of_path",
    "with_val",
]

# The words for a split, in the columns of lists and in the names of files.
_WORDS = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "develop"), "val"),
    **dict.fromkeys(("test", "testing", "tst", "eval", "evaluation"), "test"),
}

_Indices = npt.NDArray[np.int64]


def canonical(word: str) -> str:
    """The split that a word means.

    Args:
        word: As it was written: "Validation".

    Returns:
        "train", "val" or "test". "": the word means none of them.
    """
    return _WORDS.get(word.strip().lower(), "")


def split_of_path(path: str) -> str:
    """The split that the name of a file means, or else those of its folders.

    Args:
        path: A path: "data/train-00000-of-00002.parquet".

    Returns:
        "train", "val" or "test". "": no word in it means a split.
    """
    for part in reversed(path.split("/")):
        for word in re.split(r"[\W_\d]+", part):
            if split := canonical(word):
                return split
    return ""


def divide(samples: Samples, rule: str, fraction: float, seed: int) -> tuple[_Indices, _Indices]:
    """Divide samples into two parts.

    Args:
        samples: N samples; their labels are used.
        rule: "stratified": round(fraction * n) of the n samples of each class are taken, at random.
            Halves are rounded to the even number. With several labels for each sample: about
            fraction * n for each class, rare classes first; see `stratify`. With shares, the
            class is the one with the largest share. "odd_indices": the samples at odd positions are
            taken, and `fraction` has no effect. "fraction": round(fraction * N) of all samples are
            taken, at random.
        fraction: The part to be taken, 0 to 1.
        seed: Seed of the random choice.

    Returns:
        The indices that stay, and the indices that were taken.
    """
    generator, labels, table = np.random.default_rng(seed), samples.labels, samples.table
    taken = np.zeros(len(labels), bool)
    if rule == "odd_indices":
        taken[1::2] = True
    elif rule == "stratified" and table is not None and table.kind == "multi":
        from slipform.pipelines.stratify import parts_by_labels  # imports numba

        rank = generator.permutation(table.num_samples)
        taken = parts_by_labels(table, (1 - fraction, fraction), rank) == 1
    elif rule == "stratified":
        for label in np.unique(labels):
            members = np.flatnonzero(labels == label)
            taken[generator.permutation(members)[: round(fraction * len(members))]] = True
    else:
        taken[generator.permutation(len(labels))[: round(fraction * len(labels))]] = True
    return np.flatnonzero(~taken), np.flatnonzero(taken)


def divide_samples(
    train: Divisible, split: str, rule: str, fraction: float, seed: int
) -> tuple[Divisible, Divisible, str]:
    """Divide samples into two parts.

    Args:
        train: All samples of train.
        split: Name of the split that is taken: "val".
        rule: As for `divide`.
        fraction: As for `divide`.
        seed: As for `divide`.

    Returns:
        The samples that stay, those that were taken, and the rule in words.
    """
    several = train.table is not None and train.table.kind == "multi"
    staying, taken = divide(train, rule, fraction, seed)
    words = describe(split, rule, fraction, seed, len(taken))
    if several and rule == "stratified" and len(taken):
        words += ", by all labels of each image"
    return train.subset(staying), train.subset(taken), words


def with_val(
    train: Divisible,
    others: Mapping[str, Samples],
    *,
    val_split: str,
    val_fraction: float,
    seed: int,
) -> tuple[dict[str, Samples], str]:
    """Take val from train. All datasets use this function for it.

    Args:
        train: All samples of train.
        others: The other splits, such as test.
        val_split: One of `registry.RULES`, see `divide`.
        val_fraction: Part of train that becomes val, 0 to 1.
        seed: Seed of the random choice.

    Returns:
        The splits that have samples, in the order train, val, others; and the rule in words.
    """
    staying, taken, rule = divide_samples(train, "val", val_split, val_fraction, seed)
    splits: dict[str, Samples] = {"train": staying, "val": taken, **others}
    return {name: samples for name, samples in splits.items() if len(samples.labels)}, rule


def describe(split: str, rule: str, fraction: float, seed: int, num_taken: int) -> str:
    """Describe what `divide` did, for the manifest.

    Args:
        split: Name of the split that was taken.
        rule: As for `divide`.
        fraction: As for `divide`.
        seed: As for `divide`.
        num_taken: Number of samples that were taken.

    Returns:
        One sentence without a period.
    """
    if num_taken == 0:
        why = f" ({fraction:g} of every class is less than one image)" if fraction else ""
        return f"no {split}{why}"
    if rule == "odd_indices":
        return f"{split}: images of train at odd positions"
    per_class = "every class of " if rule == "stratified" else ""
    return f"{split}: {fraction:g} of {per_class}train, at random (seed {seed})"


def per_class(labels: Labels, number: int, seed: int) -> tuple[_Indices, _Indices]:
    """Take the same number of samples from each class, at random.

    Args:
        labels: int64 [N].
        number: Samples to take from each class. A class with fewer gives all of them.
        seed: Seed of the random choice.

    Returns:
        The indices that were taken, and the rest.
    """
    generator = np.random.default_rng(seed)
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        chosen[generator.permutation(np.flatnonzero(labels == label))[:number]] = True
    return np.flatnonzero(chosen), np.flatnonzero(~chosen)
