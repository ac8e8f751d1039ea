"""Mutated files of every kind that is read: a right result or a SlipformError, nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.drills.mutate import drill
from tests.drills.readers import readers
from tests.drills.warm import now

# Reading one of these takes longer.
_SLOW = ("signed checkpoint", "recipe", "result of bench", "figures, metrics.jsonl")


def _drill_all(folder: Path, total: int, seed: int, count: Callable[[str], None]) -> None:
    wrong, done, began = [], 0, now()
    for reader in readers(folder):
        outcome = drill(reader, seed, max(4, total // 10) if reader.name in _SLOW else total)
        done += outcome.total
        mistakes = sum(times for _, times in outcome.wrong.values())
        count(
            f"mutations {reader.name}: {outcome.total}, {outcome.right} right, {outcome.refused}"
            f" refused, {mistakes} wrong; {now() - began:.0f} s so far"
        )
        wrong += [
            f"{reader.name}: {times} times, first number {first} of seed {seed}: {what}"
            for what, (first, times) in outcome.wrong.items()
        ]
    count(f"mutations of all readers: {done}, {len(wrong)} kinds wrong")
    assert done > 10 * total
    assert not wrong, "\n".join(wrong)


def test_some_mutations(tmp_path: Path, count: Callable[[str], None]) -> None:
    _drill_all(tmp_path, 40, 1, count)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_many_mutations(
    tmp_path: Path, count: Callable[[str], None], amount: Callable[[str, int], int]
) -> None:
    """$SLIPFORM_DRILL_MUTATIONS for each of the readers, from $SLIPFORM_DRILL_SEED."""
    _drill_all(tmp_path, amount("mutations", 6500), amount("seed", 2), count)
