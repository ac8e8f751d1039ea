"""A public speed run as a contestant: its images, its table, its end. A script with the output of
airbench94_muon.py replaces it."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from slipform.bench.cli import main
from slipform.bench.race import speed_run
from slipform.bench.suites.accuracy import run_against
from slipform.pipelines.beton import Beton
from slipform.pipelines.manifest import read_manifest

TABLE = """\
---------------------------------------------------------------------------------
|  run     |  epoch  |  train_acc  |  val_acc  |  tta_val_acc  |  time_seconds  |
---------------------------------------------------------------------------------
|  warmup  |      1  |     0.1001  |   0.1002  |               |        9.1000  |
|          |   eval  |     0.1001  |   0.1002  |       0.1003  |        9.2000  |
---------------------------------------------------------------------------------
|       0  |      1  |     0.9001  |   0.8002  |               |        2.1000  |
|          |      2  |     0.9501  |   0.9302  |               |        2.5000  |
|          |   eval  |     0.9501  |   0.9302  |       0.9404  |        2.6000  |
---------------------------------------------------------------------------------
|       1  |      1  |     0.9001  |   0.8002  |               |        2.2000  |
|          |   eval  |     0.9501  |   0.9302  |       0.9395  |        2.7000  |
---------------------------------------------------------------------------------
"""
SCRIPT = f"""\
import sys, time
if "weak" in sys.argv[0]:
    raise RuntimeError("no CUDA GPUs are available")
import torch
data = {{name: torch.load(f"cifar10/{{name}}.pt") for name in ("train", "test")}}
images = data["train"]["images"]
assert images.dtype == torch.uint8 and images.shape[1:] == (32, 32, 3)
assert data["test"]["labels"].dtype == torch.int64 and isinstance(data["test"]["classes"], list)
print({TABLE!r}, end="")
time.sleep(600)  # it is stopped before its 200 runs
"""


def test_runs_are_read_from_the_table() -> None:
    assert list(speed_run.finished_runs(TABLE.splitlines())) == [
        ("warmup", 0.1003, 9.2),
        ("0", 0.9404, 2.6),
        ("1", 0.9395, 2.7),
    ]


def test_rows_that_follow_other_text_in_a_line() -> None:
    """hiverge's script prints the mean so far and a carriage return before the row of each run."""
    first, *rows = (line for line in TABLE.splitlines() if "eval" in line)
    lines = [first, *(f"Mean accuracy: 0.9402 (2 runs)\r{row}" for row in rows)]
    found = [accuracy for _, accuracy, _ in speed_run.finished_runs(lines)]
    assert found == [0.1003, 0.9404, 0.9395]


def test_a_table_with_one_more_column() -> None:
    """airbench94.py also prints the loss."""
    rows = [
        "| run    | epoch | train_loss | train_acc | val_acc | tta_val_acc | seconds |",
        "| warmup |  eval |     2.3000 |    0.1001 |  0.1002 |      0.1003 |  9.2000 |",
        "|      0 |     1 |     1.4000 |    0.9001 |  0.8002 |             |  2.1000 |",
        "|        |  eval |     1.2000 |    0.9501 |  0.9302 |      0.9404 |  3.8000 |",
    ]  # fmt: skip
    assert list(speed_run.finished_runs(rows)) == [("warmup", 0.1003, 9.2), ("0", 0.9404, 3.8)]


# Output of cifar10_speedrun.py: a carriage return ends the line of the mean, not a line feed.
HIVERGE = """\
---------------------------------------------------------------------------------
|  run     |  epoch  |  train_acc  |  val_acc  |  tta_val_acc  |  time_seconds  |
---------------------------------------------------------------------------------
Downloading https://example.org/cifar-10-python.tar.gz to cifar10/cifar-10-python.tar.gz
\r  0%|          | 0/170498071 [00:00<?, ?it/s]\r  4%|x         | 7307264/170498071 [00:00<00:04]
|  warmup  |   eval  |     0.1111  |   0.0978  |       0.0963  |       40.5124  |
---------------------------------------------------------------------------------
|       1  |   eval  |     0.9875  |   0.9314  |       0.9401  |        2.0133  |
---------------------------------------------------------------------------------
Mean accuracy after 1 runs: 0.940100 | Mean time: 2.013260s\r\
|       2  |   eval  |     0.9873  |   0.9346  |       0.9407  |        2.0130  |
---------------------------------------------------------------------------------
Mean accuracy after 2 runs: 0.940400 | Mean time: 2.013150s
Accuracies: Mean: 0.940400    Std: 0.000424
Times (s):  Mean: 2.013150    Std: 0.000212
"""


@pytest.mark.parametrize(
    ("text", "accuracies", "seconds"),
    [(TABLE, [0.9404, 0.9395], [2.6, 2.7]), (HIVERGE, [0.9401, 0.9407], [2.0133, 2.013])],
    ids=["airbench94_muon", "hiverge"],
)
def test_a_log_instead_of_the_script(
    text: str, accuracies: list[float], seconds: list[float], shapes_raw: Path, tmp_path: Path
) -> None:
    log = tmp_path / "run_1.log"
    log.write_text(text, newline="")
    runs = speed_run.read_log(log)
    assert [run["accuracy"] for run in runs] == accuracies
    assert [run["train_seconds"] for run in runs] == seconds
    row = run_against(log, shapes_raw, 5, 0.94, "cpu")
    assert row.status == "ok"
    assert (row.case["device"], row.settings["seeds"]) == ("of the log", 2)
    assert row.figures["accuracy"].median == pytest.approx(sum(accuracies) / 2)
    # A log that ends inside a line has the runs before that line.
    log.write_text(text[: text.rindex(str(accuracies[1])) + 4], newline="")
    assert [run["accuracy"] for run in speed_run.read_log(log)] == accuracies[:1]


def test_the_script_gets_the_images_of_the_dataset(shapes_raw: Path, tmp_path: Path) -> None:
    import torch

    speed_run.write_images(shapes_raw, tmp_path / "cifar10")
    for name in ("train", "test"):
        found = torch.load(tmp_path / "cifar10" / f"{name}.pt", weights_only=True)
        beton = Beton(shapes_raw / f"{name}.beton")
        assert found["labels"].tolist() == beton.labels.tolist()
        assert found["classes"] == list(read_manifest(shapes_raw).classes)
        assert len(found["images"]) == len(beton)
        assert all(
            (found["images"][index].numpy() == beton.raw(index)).all()
            for index in range(len(beton))
        )


def test_the_runs_are_a_row_of_the_result(shapes_raw: Path, tmp_path: Path) -> None:
    script = tmp_path / "stand_in.py"
    script.write_text(SCRIPT)
    row = run_against(script, shapes_raw, 2, 0.94, "cuda")
    assert row.status == "ok", row.note
    assert row.settings | {"sha256": ""} == {
        "seeds": 2,
        "reached_target": 1,
        "mean_accuracy": 0.93995,
        "standard_deviation": 0.00064,
        "sha256": "",
    }
    assert len(str(row.settings["sha256"])) == 16
    assert row.figures["seconds_to_target"].median == 2.6
    assert row.figures["train_seconds"].median == pytest.approx(2.65)
    assert row.figures["start_up_seconds"].repeats == 1


def test_a_failure_has_the_error_of_the_script(shapes_raw: Path, tmp_path: Path) -> None:
    script = tmp_path / "weak.py"
    script.write_text(SCRIPT)
    row = run_against(script, shapes_raw, 2, 0.94, "cuda")
    assert (row.status, row.note) == (
        "failed",
        "ended after 0 runs: RuntimeError: no CUDA GPUs are available",
    )
    assert run_against(script, shapes_raw, 2, 0.94, "cpu").status == "not possible"


def test_mistakes_are_reported_before_any_training(shapes: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.log"
    empty.write_text("nothing")
    for script, says in (
        (tmp_path / "none.py", "is no file"),
        (empty, "no finished run"),
        (Path(__file__), "trains on CIFAR-10's pixels"),
    ):
        found = CliRunner().invoke(main, ["accuracy", str(shapes), "--against", str(script)])
        assert found.exit_code == 1
        assert says in found.output
