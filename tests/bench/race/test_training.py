"""The measurements of `bench train` at a point. test_race.py tests the waiting time on a simulated
clock."""

from pathlib import Path

import pytest

from slipform.bench.race.race import Effort, Rounds
from slipform.bench.race.training import figures_of
from slipform.bench.race.training_point import Point, run_config
from slipform.bench.race.worker import CallFailed
from slipform.bench.suites.train import run
from slipform.bench.work import usual_work

EFFORT = Effort(rounds=2, seconds=0.0, warmup_seconds=0.0, min_batches=2)


def test_ratios_are_computed_within_each_round() -> None:
    drift = [1.0, 2.0, 4.0]  # a machine that doubles its speed every round
    values = {
        name: {"images_per_second": [rate * factor for factor in drift], "wait_share": [0.1] * 3}
        for name, rate in (
            ("step", 100.0),
            ("loader", 900.0),
            ("end_to_end", 90.0),
            ("torch", 45.0),
        )
    }
    found = figures_of(Rounds(values))
    ratio, multiple = found["end_to_end_ratio"], found["multiple_of_torch"]
    assert (ratio.low, ratio.high) == pytest.approx((0.9, 0.9))
    assert (multiple.low, multiple.high) == pytest.approx((2.0, 2.0))
    assert found["step_images_per_second"].median == 200.0
    del values["torch"]
    assert "multiple_of_torch" not in figures_of(Rounds(values))


@pytest.mark.slow
def test_a_point_is_measured_in_a_process_of_its_own(shapes_raw: Path) -> None:
    point = Point(str(shapes_raw), "tiny", 40, precision="fp32", compile="off", peer=False)
    (row,) = run([point], EFFORT)
    assert row.status == "ok", row.note
    assert "executor" not in row.case
    assert row.settings["executor"] == "resident"
    assert row.figures["step_images_per_second"].repeats == 2
    assert 0 <= row.figures["wait_share"].low <= row.figures["wait_share"].high <= 1
    assert row.figures["resident_bytes"].median > 2**27
    assert "torch_images_per_second" not in row.figures


def test_the_error_of_a_point_is_in_its_row(
    shapes_raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise CallFailed("its process ended with status -9", "out of memory")

    monkeypatch.setattr("slipform.bench.race.worker.isolated", killed)
    (row,) = run([Point(str(shapes_raw), "tiny", 40)], EFFORT)
    assert (row.status, row.figures) == ("out of memory", {})


def test_the_step_is_what_train_runs(shapes_raw: Path) -> None:
    work = usual_work(shapes_raw, batch_size=40, cores=1, device="cpu", dtype="float32")
    config = run_config(Point(str(shapes_raw), "resnet18", 40, executor="host"), work)
    assert config.augment == work.augment
    assert (config.train.batch_size, config.data.executor) == (40, "host")
    assert config.model.small_input  # 32 px: a backbone of 224 px gets the stem for small images
