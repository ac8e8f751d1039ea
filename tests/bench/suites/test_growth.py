"""`bench growth` measures each part, and its rows have the figures of its layout."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from slipform.bench.result.panels import Panel
from slipform.bench.result.result import read_result
from slipform.bench.suites import growth
from slipform.pipelines.manifest import read_manifest


def test_the_generated_dataset_has_as_many_samples_as_asked_for(tmp_path: Path) -> None:
    figures = growth.measure_prep(str(tmp_path / "data"), 2000)
    assert read_manifest(tmp_path / "data").split("train").num_samples == 2000
    assert figures["sample_seconds"].median > 0
    for executor in ("host", "resident"):
        found = growth.measure_loader(str(tmp_path / "data"), executor)
        assert found["sample_seconds"].repeats == 7
        assert found["start_up_seconds"].median > 0
        assert found["sample_bytes"].median == found["above_imports_bytes"].median / 2000


def test_a_row_for_each_part_and_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows, the table and the figures, measured in this process. A failure is also a row."""

    def here(function: object, *arguments: object) -> object:
        assert callable(function)
        if arguments[-1] == "host":
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
        ("order", 1000, "ok"),
        ("prep", 600, "ok"),
        ("host", 600, "out of memory"),
        ("resident", 600, "ok"),
    ]
    panels = growth.LAYOUT.figures[0].draw(rows)
    bars = [len(panel.bars) for panel in panels if isinstance(panel, Panel)]
    assert bars == [2, 2, 1, 1, 1, 1, 1, 1]
