"""`bench growth` measures each part, and its rows have the figures of its layout."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from slipform.bench.race import growing
from slipform.bench.race.measure import estimate
from slipform.bench.result.panels import Panel
from slipform.bench.result.result import Row, read_result
from slipform.bench.suites import growth
from slipform.pipelines.manifest import read_manifest


def test_the_figures_of_as_many_samples_as_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that is a second later at each reading."""
    readings = itertools.count()
    clock = SimpleNamespace(perf_counter=lambda: float(next(readings)))
    monkeypatch.setattr(growing, "time", clock)
    figures = growing.measure_prep(str(tmp_path / "data"), 2000)
    assert read_manifest(tmp_path / "data").split("train").num_samples == 2000
    assert figures["sample_seconds"].median == 1 / 2000
    for executor in ("host", "resident"):
        found = growing.measure_loader(str(tmp_path / "data"), executor)
        seconds = found["sample_seconds"]
        assert (seconds.low, seconds.high, seconds.repeats) == (1 / 10_240, 1 / 10_240, 7)
        assert found["start_up_seconds"].median == 1
        # After the first batch of 512, two more whole ones.
        assert found["first_epoch_sample_seconds"].median == 1 / 1024
        assert found["sample_bytes"].median == found["above_imports_bytes"].median / 2000


def test_a_row_for_each_part_and_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows, the table and the figures, measured in this process. A failure is also a row."""

    def here(function: object, *arguments: object) -> object:
        assert callable(function)
        if arguments[1:] == ("host", 0):
            from slipform.bench.race.worker import CallFailed

            raise CallFailed("its process ended", "out of memory")
        return function(*arguments)

    monkeypatch.setattr("slipform.bench.race.worker.isolated", here)
    options = ["--samples", "600", "--order-samples", "100,1000", "--out", str(tmp_path / "r.json")]
    result = CliRunner().invoke(growth.command, options)
    assert result.exit_code == 0, result.output
    rows = read_result(tmp_path / "r.json").rows
    assert [(row.case["way"], row.case["samples"], row.status) for row in rows] == [
        ("order", 100, "ok"),
        ("order, blocks of 256", 100, "ok"),
        ("order", 1000, "ok"),
        ("order, blocks of 256", 1000, "ok"),
        ("prep", 600, "ok"),
        ("host", 600, "out of memory"),
        ("host, blocks of 256", 600, "ok"),
        ("resident", 600, "ok"),
        ("resident, blocks of 256", 600, "ok"),
    ]
    panels = growth.LAYOUT.figures[0].draw(rows)
    bars = [len(panel.bars) for panel in panels if isinstance(panel, Panel)]
    assert bars == [2, 2, 2, 2, *[1] * 10]


def test_wrong_numbers_are_refused_before_the_measurements(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("slipform.bench.race.worker.isolated", None)
    result = CliRunner().invoke(growth.command, ["--samples", "10,many"])
    assert result.exit_code == 2
    assert "give whole numbers above 0" in result.output


def row(way: str, samples: int, seconds: float, size: float) -> Row:
    figures = {"sample_seconds": estimate([seconds]), "sample_bytes": estimate([size])}
    return Row(suite="growth", case={"way": way, "samples": samples}, figures=figures)


def test_growth_is_that_of_one_run() -> None:
    """Not from the smallest dataset on one machine to the largest on another."""
    slow = [row("prep", 100, 4e-6, 500), row("prep", 5000, 4e-6, 500)]
    fast = [row("prep", 100, 1e-6, 50), row("prep", 5000, 1e-6, 50)]
    for results in ([slow, fast], [fast, slow]):
        found = growth.verdict(results)
        assert found is not None
        assert found.value == "1.00 ×"
        assert found.meaning.endswith("time: 1.00 ×")
    assert growth.verdict([slow[:1], fast[1:]]) is None


def test_few_samples_may_take_no_more_memory_than_the_imports() -> None:
    none = [row("host", 100, 1e-6, 0), row("host", 5000, 3e-6, 300)]
    assert growth.verdict([none]) is None
    found = growth.verdict([[*none, row("prep", 100, 2e-6, 500), row("prep", 5000, 2e-6, 250)]])
    assert found is not None
    assert (found.value, found.meaning[-6:]) == ("0.50 ×", "3.00 ×")


def test_the_verdict_is_of_all_parts() -> None:
    rows = [
        row("order", 100, 1e-8, 50), row("order", 1000, 1e-8, 40), row("order", 10**6, 2.5e-8, 30),
        row("prep", 100, 4e-6, 500), row("host", 100, 1e-6, 400),
        row("prep", 5000, 2e-6, 250), row("host", 5000, 3e-6, 300),
    ]  # fmt: skip
    found = growth.verdict([rows])
    assert found is not None
    assert found.sentence == (
        "From 100 to 5,000 samples, prep and loaders take at most 3.00 times as much time per"
        " sample, and at most 0.75 times as much memory. From 100 to 1,000,000 samples, the order"
        " of an epoch takes 2.50 times as much time per sample."
    )
    without = growth.verdict([rows[3:]])
    assert without is not None
    assert "order" not in without.sentence
    assert growth.verdict([rows[:3]]) is None
