"""Proposals: what Optuna draws the settings of a trial from.

In: ranges, a seed. Out: distributions and a sampler of Optuna.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from slipform.train.search.space import Range

__all__ = ["distributions_of", "make_sampler"]


def distributions_of(ranges: Sequence[Range]) -> dict[str, Any]:
    """The distributions of the settings, by name.

    Args:
        ranges: The settings that vary.
    """
    from optuna import distributions

    found: dict[str, Any] = {}
    for one in ranges:
        if one.low is None or one.high is None:
            found[one.name] = distributions.CategoricalDistribution(one.choices)
        elif isinstance(one.low, int) and isinstance(one.high, int):
            found[one.name] = distributions.IntDistribution(one.low, one.high, log=one.log)
        else:
            found[one.name] = distributions.FloatDistribution(one.low, one.high, log=one.log)
    return found


def make_sampler(seed: int, number: int) -> Any:
    """The sampler of a trial. Its seed is the trial's own: a resumed search goes on exactly.

    Args:
        seed: The seed of the search.
        number: The number of the trial.
    """
    from optuna.samplers import TPESampler

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # constant_liar is called experimental
        return TPESampler(seed=1_000_003 * seed + number, constant_liar=True)
