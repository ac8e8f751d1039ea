"""`bench scale` gives a row for each part of the work, with what it assumes."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner

from slipform.bench.result.quantities import QUANTITIES
from slipform.bench.result.result import read_result
from slipform.bench.scale.assumptions import Assumptions
from slipform.bench.suites import scale

SMALL = ["--samples", "6000", "--num-bytes", "6e8", "--workers", "3", "--shards", "6"]
MORE = ["--batch-size", "20", "--block", "100", "--window", "2", "--ahead-bytes", "6e7"]


def test_rows_and_table(tmp_path: Path) -> None:
    out = tmp_path / "scale.json"
    result = CliRunner().invoke(scale.command, [*SMALL, *MORE, "--out", str(out)])
    assert result.exit_code == 0, result.output
    rows = {str(row.case["way"]): row for row in read_result(out).rows}
    assert list(rows) == [
        "list all images",
        "read, check, write",
        "upload",
        "merge",
        "all parts",
        "open: all tables, from nothing",
        "an epoch, shuffled",
        "an epoch, blocks of 100",
        "an epoch, order of the files",
        "an epoch, blocks of 100 of the worker's own",
    ]
    for row in rows.values():
        assert row.settings
        assert set(row.figures) <= set(scale.LAYOUT.columns or ())
        assert set(row.figures) <= set(QUANTITIES)
        assert row.case["way"] in result.output
    epochs = [row.figures for way, row in rows.items() if way.startswith("an epoch")]
    assert all(figures["fetched_ratio"].median >= 1 for figures in epochs)
    shuffled, _, files, own = (figures["requests"].median for figures in epochs)
    assert 0.7 * 6000 < shuffled <= 6000
    assert files < shuffled / 3
    assert own < shuffled / 3
    step = 6000 / 3 / 2500
    assert all(figures["slowest_worker_seconds"].median >= step for figures in epochs)


def test_every_assumption_is_an_option_that_says_where_it_comes_from() -> None:
    shown = CliRunner().invoke(scale.command, ["--help"]).output
    for one in fields(Assumptions):
        assert f"--{one.name.replace('_', '-')} " in shown
        assert one.metadata["help"].endswith(".")


def test_too_little_room_is_explained() -> None:
    result = CliRunner().invoke(scale.command, [*SMALL, *MORE[:-2], "--ahead-bytes", "1000"])
    assert result.exit_code == 1
    assert "give a larger --ahead-bytes" in result.output
    assert isinstance(result.exception, SystemExit)


@pytest.mark.parametrize("wrong", [["--workers", "0"], ["--latency", "0"], ["--block", "1"]])
def test_wrong_values_end_with_2(wrong: list[str]) -> None:
    assert CliRunner().invoke(scale.command, wrong).exit_code == 2
