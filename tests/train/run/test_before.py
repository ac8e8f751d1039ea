"""Runs of version 0.1 still resume and load.

tests/train/before has a dataset and two finished runs of that version, each with a checkpoint from
the middle of an epoch.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from slipform.train.config.recipe import parse_config, read_config
from slipform.train.config.run_config import check
from slipform.train.records import read_summary
from slipform.train.run.checkpoint import load_newest
from slipform.train.run.loop import fit

BEFORE = Path(__file__).parents[1] / "before"
# Figure -> the bound of its difference on another processor. Losses with SSE4, AVX2 and AVX-512
# differed by 6e-5. One image may have another class.
BOUNDS: dict[str, dict[str, float]] = {
    "lr": {"rel": 1e-9},
    "loss": {"rel": 1e-3},
    "train_loss": {"rel": 1e-3},
    "val_loss": {"rel": 1e-3},
    "train_accuracy": {"rel": 0, "abs": 1.01 / 96},
    "val_accuracy": {"rel": 0, "abs": 1.01 / 24},
}


def _lines(run: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("name", ["sgd", "muon"])
def test_a_run_of_version_0_1_resumes_in_the_middle_of_an_epoch(name: str, tmp_path: Path) -> None:
    """The losses after the checkpoint are those that version 0.1 wrote, up to the order of sums on
    another processor."""
    run = tmp_path / name
    shutil.copytree(BEFORE / name, run)
    (run / "summary.json").unlink()
    saved = load_newest(run, lambda message: pytest.fail(message))
    assert saved is not None
    step = saved["state"]["step"]
    summary = fit(
        read_config(run / "config.toml"),
        BEFORE / "data",
        run,
        device="cpu",
        resume=True,
        quiet=True,
    )
    expected, found = _lines(BEFORE / name), _lines(run)
    assert [(x["kind"], x["step"]) for x in found] == [(x["kind"], x["step"]) for x in expected]
    for before, now in zip(expected, found, strict=True):
        for key in BOUNDS.keys() & before.keys():
            assert now[key] == pytest.approx(before[key], **BOUNDS[key]), (key, before, now)
    assert 0 < step < summary["steps"] == expected[-1]["step"]


def test_settings_of_version_0_1_have_their_present_names() -> None:
    """data.loader was renamed to data.executor."""
    assert read_config(BEFORE / "sgd" / "config.toml").data.executor == "resident"
    assert check({"data": {"loader": "dali"}}).data.executor == "dali"


def test_a_summary_of_version_0_1_has_its_present_names() -> None:
    summary = read_summary(BEFORE / "sgd")
    assert summary is not None
    assert summary["executor"] == "resident"
    assert "loader" not in summary


def test_new_settings_reproduce_version_0_1() -> None:
    """Version 0.1 always decoded images in full."""
    text = (BEFORE / "sgd" / "config.toml").read_text()
    assert "decode_scale" not in text
    assert read_config(BEFORE / "sgd" / "config.toml").data.decode_scale == "off"
    assert parse_config(text, "a checkpoint").data.decode_scale == "off"
    assert check({}).data.decode_scale == "auto"
