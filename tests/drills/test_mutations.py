"""Mutated files of every kind that is read: a right result or a SlipformError, and no other
outcome."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.drills.mutate import drill
from tests.drills.readers import readers
from tests.drills.warm import now
from tests.warm import Warm

# Reading one of these takes longer.
_SLOW = ("signed checkpoint", "recipe", "result of bench", "figures, metrics.jsonl")


def _drill_all(
    warm: Warm, folder: Path, total: int, seed: int, count: Callable[[str], None]
) -> None:
    """The drill runs in its own process: it forks, and another test may have loaded DALI in this
    process. DALI does not work after a fork."""
    program = "import runpy; runpy.run_module('tests.drills.test_mutations', run_name='__main__')"
    ended = warm.run(program, folder, total, seed)
    for line in ended.stdout.splitlines():
        count(line)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def _drill_here(
    folder: Path, total: int, seed: int, count: Callable[[str], None], names: Sequence[str] = ()
) -> None:
    """names: only the readers of these names. Empty: all."""
    wrong, done, began = [], 0, now()
    chosen = [reader for reader in readers(folder) if not names or reader.name in names]
    for reader in chosen:
        outcome = drill(reader, seed, max(2, total // 10) if reader.name in _SLOW else total)
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
    count(f"mutations of {len(chosen)} readers: {done}, {len(wrong)} kinds wrong")
    assert len(chosen) >= (len(names) or 40)
    assert not wrong, "\n".join(wrong)


def test_some_mutations(warm_process: Warm, tmp_path: Path, count: Callable[[str], None]) -> None:
    _drill_all(warm_process, tmp_path, 4, 1, count)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_many_mutations(
    warm_process: Warm, tmp_path: Path, count: Callable[[str], None],
    amount: Callable[[str, int], int],
) -> None:  # fmt: skip
    """$SLIPFORM_DRILL_MUTATIONS for each of the readers, from $SLIPFORM_DRILL_SEED."""
    _drill_all(warm_process, tmp_path, amount("mutations", 6500), amount("seed", 2), count)


if __name__ == "__main__":
    _drill_here(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), print, sys.argv[4:])
