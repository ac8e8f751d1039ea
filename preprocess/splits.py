"""Which sample belongs to which split.

In: labels, int64 [N], and a rule. Out: sorted indices, int64. The same seed gives the same split
everywhere (numpy's PCG64).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from slipform.preprocess.source import Arrays, Files, Labels, Samples

Indices = npt.NDArray[np.int64]


def divide(labels: Labels, rule: str, fraction: float, seed: int) -> tuple[Indices, Indices]:
    """Indices that stay, and indices taken out by `rule`.

    stratified: round(fraction * n) of every class's n images, at random (a half goes to the even
    number). odd_indices: those at odd positions (fraction plays no part). fraction: round(fraction
    * N) of all images, at random.
    """
    generator = np.random.default_rng(seed)
    taken = np.zeros(len(labels), bool)
    if rule == "odd_indices":
        taken[1::2] = True
    elif rule == "stratified":
        for label in np.unique(labels):
            members = np.flatnonzero(labels == label)
            taken[generator.permutation(members)[: round(fraction * len(members))]] = True
    else:
        taken[generator.permutation(len(labels))[: round(fraction * len(labels))]] = True
    return np.flatnonzero(~taken), np.flatnonzero(taken)


def with_val(
    train: Files | Arrays,
    others: Mapping[str, Samples],
    *,
    val_split: str,
    val_fraction: float,
    seed: int,
) -> tuple[dict[str, Samples], str]:
    """Take val from train: the one way in which all datasets do it.

    Args:
        train: All samples of train.
        others: The other splits, such as test.
        val_split: One of `registry.RULES`.
        val_fraction: Part of train that becomes val.
        seed: For the random choice.

    Returns:
        The splits that have samples, in the order train, val, test; the rule in words.
    """
    staying, taken = divide(train.labels, val_split, val_fraction, seed)
    splits: dict[str, Samples] = {
        "train": train.subset(staying),
        "val": train.subset(taken),
        **others,
    }
    rule = describe("val", val_split, val_fraction, seed, len(taken))
    return {name: samples for name, samples in splits.items() if len(samples.labels)}, rule


def describe(split: str, rule: str, fraction: float, seed: int, num_taken: int) -> str:
    """What `divide` did, in words, for the manifest."""
    if num_taken == 0:
        why = f" ({fraction:g} of every class is less than one image)" if fraction else ""
        return f"no {split}{why}"
    if rule == "odd_indices":
        return f"{split}: images of train at odd positions"
    per_class = "every class of " if rule == "stratified" else ""
    return f"{split}: {fraction:g} of {per_class}train, at random (seed {seed})"


def per_class(labels: Labels, number: int, seed: int) -> tuple[Indices, Indices]:
    """`number` images of every class at random, and the rest. A class with fewer gives all it
    has."""
    generator = np.random.default_rng(seed)
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        chosen[generator.permutation(np.flatnonzero(labels == label))[:number]] = True
    return np.flatnonzero(chosen), np.flatnonzero(~chosen)
