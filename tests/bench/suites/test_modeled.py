"""`bench modeled` gives a row for each part of the work: the model beside a run."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from slipform.bench.result.quantities import QUANTITIES
from slipform.bench.result.result import read_result
from slipform.bench.suites import modeled


@pytest.mark.slow
def test_rows(tmp_path: Path) -> None:
    out = tmp_path / "modeled.json"
    sizes = ["--images", "256", "--workers", "2", "--shards", "4", "--block", "16"]
    options = [*sizes, "--latency", "1", "--rounds", "1", "--out", str(out)]
    result = CliRunner().invoke(modeled.command, options)
    assert result.exit_code == 0, result.output
    rows = {str(row.case["part"]): row.figures for row in read_result(out).rows}
    assert list(rows) == [
        "list, write and upload shards",
        "merge",
        "open",
        "an epoch, shuffled",
        "an epoch, blocks of 16",
    ]
    for part, figures in rows.items():
        assert set(figures) == set(modeled.LAYOUT.columns or ()) <= set(QUANTITIES)
        asked, expected = (
            figures[name].median for name in ("measured_requests", "modeled_requests")
        )
        if part in ("merge", "open"):
            assert asked == expected
        elif part.startswith("list"):
            assert expected - 2 * 8 <= asked <= expected  # the first shard of each worker
        else:
            assert asked == pytest.approx(expected, rel=0.15)  # sizes of images are drawn


@pytest.mark.parametrize("wrong", [["--workers", "0"], ["--latency", "0"], ["--images", "1"]])
def test_wrong_values_end_with_2(wrong: list[str]) -> None:
    assert CliRunner().invoke(modeled.command, wrong).exit_code == 2
