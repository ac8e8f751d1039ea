"""Which sample belongs to which split.

In: labels, int64 [N], and a rule. Out: sorted indices, int64. The same seed gives the same split
everywhere (numpy's PCG64).
"""

from __future__ import annotations

import click
import numpy as np
import numpy.typing as npt

from slipform.preprocess.source import Labels

Indices = npt.NDArray[np.int64]
RULES = ("stratified", "odd_indices", "fraction")


def val_options(default_fraction: float) -> tuple[click.Option, ...]:
    """--val-split, --val-fraction and --seed, for datasets whose val split is taken from train."""
    return (
        click.Option(
            ["--val-split"],
            type=click.Choice(RULES),
            default="stratified",
            show_default=True,
            help=(
                "How val is taken from train: a fraction of every class; every second image; a"
                " fraction of all."
            ),
        ),
        click.Option(
            ["--val-fraction"],
            type=click.FloatRange(0, 0.99),
            default=default_fraction,
            show_default=True,
            help="Part of train that becomes val; 0: no val.",
        ),
        click.Option(
            ["--seed"],
            type=int,
            default=0,
            show_default=True,
            help="For the random choice of the split.",
        ),
    )


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


def describe(rule: str, fraction: float, seed: int) -> str:
    """The rule in words, for the manifest."""
    if rule == "odd_indices":
        return "val: images of train at odd positions"
    if fraction == 0:
        return "no val"
    return (
        f"val: {fraction:g} of {'every class of ' if rule == 'stratified' else ''}train, at random"
        f" (seed {seed})"
    )


def per_class(labels: Labels, number: int, seed: int) -> tuple[Indices, Indices]:
    """`number` images of every class at random, and the rest. A class with fewer gives all it
    has."""
    generator = np.random.default_rng(seed)
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        chosen[generator.permutation(np.flatnonzero(labels == label))[:number]] = True
    return np.flatnonzero(chosen), np.flatnonzero(~chosen)
