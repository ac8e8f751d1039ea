"""`bench train`: its options give the conditions that are measured."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from slipform.bench.cli import main
from slipform.bench.race.measure import estimate
from slipform.bench.race.race import Effort
from slipform.bench.race.training_point import Point
from slipform.bench.result.result import Row
from slipform.bench.suites import Kept, train


@pytest.mark.parametrize(
    ("words", "rounds", "seconds", "min_batches"),
    [
        ([], 7, 3.0, 3),
        (["--quick"], 3, 0.5, 2),
        (["--rounds", "101"], 101, 1.0, 3),
        (["--rounds", "9", "--quick"], 9, 0.5, 2),
    ],
)
def test_rounds_replace_the_number_of_repeats(
    shapes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    rounds: int,
    seconds: float,
    min_batches: int,
) -> None:
    efforts = []

    def run(points: list[Point], effort: Effort, auto_seconds: float, kept: Kept) -> Iterator[Row]:
        efforts.append(effort)
        figures = {name: estimate([1.0]) for name in ("end_to_end_ratio", "wait_share")}
        for point in points:
            yield Row(suite="train", case={"model": point.model}, figures=figures)

    monkeypatch.setattr(train, "run", run)
    options = ["--data", str(shapes), "--models", "tiny", "--out", str(tmp_path / "out.json")]
    done = CliRunner().invoke(main, ["train", *options, *words])
    assert done.exit_code == 0, done.output
    (effort,) = efforts
    assert (effort.rounds, effort.seconds) == (rounds, seconds)
    assert effort.min_batches == min_batches


@pytest.mark.parametrize("number", ["0", "-1", "many"])
def test_rounds_are_whole_numbers_above_0(shapes: Path, number: str) -> None:
    done = CliRunner().invoke(main, ["train", "--data", str(shapes), "--rounds", number])
    assert done.exit_code == 2
    assert "--rounds" in done.output
