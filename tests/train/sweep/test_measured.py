"""What runs measured by the names of reports, the numbers of epochs, and seconds under load."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slipform.train.config.recipe import Recipe, SweepRun
from slipform.train.config.resolve import resolve
from slipform.train.records import write_summary
from slipform.train.sweep.measured import is_quiet, measured, write_epochs
from slipform.train.sweep.table import Row, has_no_effect, stated_settings, write_tables
from tests.train.config.reported import REPORTED_KEYS

ACCURACIES = {"a": 0.9, "b": 0.5, "c": 0.6, "d": 0.8, "e": None}


def _run(folder: Path, seconds: float = 100.0, **summary: Any) -> Path:
    """A finished run of two epochs, of which the first one was saved."""
    folder.mkdir(parents=True)
    values = {"test_accuracy": 0.7, "val_accuracy": 0.6, "best_epoch": 1, "epochs": 2}
    speed = {"seconds": seconds, "images_per_second": 9.0, "compiled": False}
    versions = dict.fromkeys(("machine", "torch", "precision", "executor"), "x")
    more = {"trainable_parameters": 7, "test_class_accuracy": ACCURACIES, "others_share": 0.0}
    write_summary(folder, values | speed | versions | more | summary)
    lines = [
        {"kind": "step", "step": 1, "epoch": 1, "loss": 2.5, "lr": 0.1},
        *(
            {"kind": "epoch", "step": epoch, "epoch": epoch, "train_loss": 3 - epoch,
             "train_accuracy": 0.1 * epoch, "val_loss": 4 - epoch, "val_accuracy": 0.2 * epoch,
             "test_accuracy": 0.3 * epoch}
            for epoch in (1, 2)
        ),
    ]  # fmt: skip
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("loss", 1.0), ("first_loss", 2.5), ("train_loss", 2.0), ("val_loss", 3.0),
        ("train_accuracy", 0.1), ("first_val_accuracy", 0.2), ("first_test_accuracy", 0.3),
        ("stopped_at_epoch", 2), ("trainable_parameters", 7), ("worst_class_accuracy", 0.5),
        ("other_classes_accuracy", (0.9 + 0.6 + 0.8) / 3), ("worst_half_min", 0.5),
        ("worst_half_max", 0.6), ("no such key", None),
    ],
)  # fmt: skip
def test_a_value_by_the_name_of_the_report(key: str, value: float | None, tmp_path: Path) -> None:
    assert measured(_run(tmp_path / "run"), key) == pytest.approx(value)


def test_every_name_of_a_report_is_measured(tmp_path: Path) -> None:
    run = _run(tmp_path / "run")
    columns = {"val_accuracy", "test_accuracy", "seconds", "minutes", "outcome"}
    for key in REPORTED_KEYS - columns:
        assert measured(run, key) is not None, key


def test_the_precision_is_told_where_runs_differ_in_it(tmp_path: Path) -> None:
    kinds = {"a": "bfloat16", "b": "float32"}
    runs = {name: _run(tmp_path / name, precision=kind) for name, kind in kinds.items()}
    rows = [_row(SweepRun(name, {}, {}), [run]) for name, run in runs.items()]
    write_tables(tmp_path, [], rows)
    lines = csv.DictReader((tmp_path / "table.csv").read_text().splitlines())
    assert {line["run"]: line["precision"] for line in lines} == kinds
    text = (tmp_path / "table.md").read_text()
    for cell in ("precision", "bfloat16", "float32"):
        assert f"| {cell} |" in text
    write_tables(tmp_path, [], rows[:1])
    assert "| precision |" not in (tmp_path / "table.md").read_text()
    both = _row(SweepRun("both", {}, {}), [*runs.values()])
    write_tables(tmp_path, [], [both])
    assert "| bfloat16; float32 |" in (tmp_path / "table.md").read_text()


def test_what_was_not_recorded_is_no_number(tmp_path: Path) -> None:
    run = _run(tmp_path / "run", test_class_accuracy=None)
    assert measured(run, "worst_class_accuracy") is None
    (run / "metrics.jsonl").unlink()
    assert measured(run, "loss") is None
    reported = {"worst_class_accuracy": 0.6, "loss": 1.0, "first_loss": 0.99}
    rows = [_row(SweepRun("a", {}, reported), [run])]
    write_tables(tmp_path, [], rows)
    (line,) = csv.DictReader((tmp_path / "table.csv").read_text().splitlines())
    assert [line[key] for key in reported] == ["", "", ""]
    assert "nan" not in (tmp_path / "table.md").read_text()


def _row(run: SweepRun, folders: list[Path]) -> Row:
    return Row(run, resolve(None, ["train.epochs=2"]), 2, folders, {})


def test_every_epoch_of_every_repeat(tmp_path: Path) -> None:
    folders = [_run(tmp_path / "a" / f"seed-{seed}") for seed in (0, 1)]
    path = write_epochs(tmp_path, {"a": folders, "not run": [tmp_path / "none"]})
    assert path is not None
    lines = list(csv.DictReader(path.read_text().splitlines()))
    assert [(x["run"], x["repeat"], x["epoch"]) for x in lines] == [
        ("a", f"seed-{seed}", epoch) for seed in (0, 1) for epoch in ("1", "2")
    ]
    assert (lines[1]["train_loss"], lines[1]["test_accuracy"], lines[1]["test_loss"]) == (
        "1", "0.6", "",
    )  # fmt: skip
    assert write_epochs(tmp_path, {"not run": [tmp_path / "none"]}) is None


@pytest.mark.parametrize(
    ("summary", "quiet"),
    [({"others_share": 0.01}, True), ({"others_share": 0.2}, False), ({}, False),
     ({"others_share": None}, False), ({"others_share": True}, False)],
)  # fmt: skip
def test_a_run_is_quiet_if_its_summary_says_so(summary: dict[str, Any], quiet: bool) -> None:
    assert is_quiet(summary) == quiet


def test_seconds_of_runs_under_load_do_not_count(tmp_path: Path, no_figures: None) -> None:
    loud, quiet = _run(tmp_path / "1", 4000, others_share=0.6), _run(tmp_path / "2")
    older = _run(tmp_path / "3", 4000, others_share=None)
    run = SweepRun("a", {}, {"seconds": 200, "test_accuracy": 0.6})
    for folders, seconds, note in (
        ([loud], "", "under load: seconds do not count"),
        ([loud, quiet], "100.0", "under load (1 of 2): seconds do not count"),
        ([quiet], "100.0", ""),
        ([older], "", "load not recorded: seconds do not count"),
        (
            [loud, older, quiet],
            "100.0",
            "under load (1 of 3), load not recorded (1 of 3): seconds do not count",
        ),
    ):
        text = write_tables(tmp_path, [], [_row(run, folders)]).read_text()
        (line,) = csv.DictReader((tmp_path / "table.csv").read_text().splitlines())
        assert (line["seconds"], line["note"]) == (seconds, note)
        assert (line.get("times_faster", "") == "2.0") == bool(seconds)
        assert bool(line["images_per_second"]) == bool(seconds)
        assert "4,000" not in text
        assert "4000" not in text
        assert line["test_accuracy"] == "0.7"


def test_a_run_that_failed_after_its_end_is_not_counted_twice(tmp_path: Path) -> None:
    """It was killed while it drew its figures, for example."""
    done, left = _run(tmp_path / "1"), tmp_path / "2"
    row = replace(_row(SweepRun("a", {}, {}), [done, left]), notes={done: "failed: killed"})
    write_tables(tmp_path, [], [row])
    (line,) = csv.DictReader((tmp_path / "table.csv").read_text().splitlines())
    assert line["note"] == "failed: killed; 1 of 2 not finished"


def test_measuring_test_at_each_epoch_is_no_other_setting() -> None:
    run = SweepRun("a", {}, {})
    base: dict[str, Any] = {"train": {"epochs": 2}}
    each: dict[str, Any] = {"train": {"epochs": 2, "test_each_epoch": True}}
    longer: dict[str, Any] = {"train": {"epochs": 3, "test_each_epoch": True}}
    stated = [stated_settings(Recipe("r", one), run) for one in (base, each, longer)]
    assert stated[0] == stated[1] != stated[2]
    assert has_no_effect("train.test_each_epoch")
    assert has_no_effect("data.threads")
    assert not has_no_effect("data.fold")
    assert not has_no_effect("train.epochs")
