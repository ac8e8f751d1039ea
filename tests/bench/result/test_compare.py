"""`bench compare`: a slowed result fails, and noise passes."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from click.testing import Result as Outcome

from slipform.bench.cli import main
from slipform.bench.race.measure import estimate, ratio
from slipform.bench.result.environment import stamp
from slipform.bench.result.result import Result, Row, write_result


def result(seed: int, *, slower: float = 1.0, machine: str = "one", ratios: bool = True) -> Result:
    """Slipform at 4,000 images/s and ffcv at 2,000, each with 2 % of noise. The factor slows
    Slipform."""
    noise = np.random.default_rng(seed).normal(1, 0.02, size=(2, 11))
    ours, theirs = 4000 / slower * noise[0], 2000 * noise[1]
    figures = {"images_per_second": estimate(ours.tolist())}
    if ratios:
        figures["multiple_of_ffcv"] = ratio(ours.tolist(), theirs.tolist())
    rows = [
        Row(suite="loaders", case={"loader": "slipform host"}, figures=figures),
        Row(
            suite="loaders",
            case={"loader": "ffcv"},
            figures={"images_per_second": estimate(theirs.tolist())},
        ),
    ]
    return Result(
        environment=stamp().model_copy(update={"machine": machine}),
        command="bench loaders",
        rows=rows,
    )


def compare(folder: Path, a: Result, b: Result, *options: str) -> Outcome:
    write_result(folder / "a.json", a)
    write_result(folder / "b.json", b)
    return CliRunner().invoke(
        main, ["compare", str(folder / "a.json"), str(folder / "b.json"), *options]
    )


@pytest.mark.parametrize("seed", range(1, 11))
def test_noise_passes(tmp_path: Path, seed: int) -> None:
    found = compare(tmp_path, result(0), result(seed))
    assert found.exit_code == 0, found.output
    assert "3 numbers compared: 0 worse" in found.output


@pytest.mark.parametrize("machine", ["one", "other"])
def test_a_slowed_result_fails(tmp_path: Path, machine: str) -> None:
    found = compare(tmp_path, result(0), result(1, slower=1.2, machine=machine))
    assert found.exit_code == 1
    assert "WORSE" in found.output
    assert "multiple of ffcv" in found.output
    assert ("images/s" in found.output) == (
        machine == "one"
    )  # absolute figures of different machines are not compared


def test_a_slowed_result_passes_within_the_tolerance(tmp_path: Path) -> None:
    assert compare(tmp_path, result(0), result(1, slower=1.2), "--tolerance", "0.25").exit_code == 0


def test_a_faster_result_passes_and_is_shown(tmp_path: Path) -> None:
    found = compare(tmp_path, result(0), result(1, slower=0.8))
    assert found.exit_code == 0
    assert "better" in found.output


def test_more_seconds_and_more_device_memory_are_worse(tmp_path: Path) -> None:
    def with_figure(name: str, values: list[float]) -> Result:
        rows = [Row(suite="train", case={"model": "alexnet"}, figures={name: estimate(values)})]
        return result(0).model_copy(update={"rows": rows})

    for name in ("first_batch_seconds", "device_used_bytes"):
        assert (
            compare(
                tmp_path, with_figure(name, [1.0, 1.1, 1.2]), with_figure(name, [2.0, 2.1, 2.2])
            ).exit_code
            == 1
        )
        assert (
            compare(
                tmp_path, with_figure(name, [2.0, 2.1, 2.2]), with_figure(name, [1.0, 1.1, 1.2])
            ).exit_code
            == 0
        )


def test_a_row_that_fails_in_b_is_reported_as_lost(tmp_path: Path) -> None:
    after = result(1)
    failed = after.rows[1].model_copy(update={"status": "failed", "figures": {}, "note": "it died"})
    found = compare(tmp_path, result(0), after.model_copy(update={"rows": [after.rows[0], failed]}))
    assert found.exit_code == 1
    assert "LOST: ffcv" in found.output.replace("loader=", "")
    assert "it died" in found.output


def test_a_lost_row_is_reported_if_it_is_the_only_one_in_common(tmp_path: Path) -> None:
    before, after = (result(seed, ratios=False) for seed in (0, 1))
    failed = after.rows[1].model_copy(update={"status": "failed", "figures": {}, "note": "it died"})
    found = compare(tmp_path, before, after.model_copy(update={"rows": [failed]}))
    assert found.exit_code == 1
    assert "LOST: loader=ffcv: failed: it died" in found.output
    assert "is worse than" in found.output


def test_a_row_that_b_did_not_measure_is_named(tmp_path: Path) -> None:
    after = result(1)
    found = compare(tmp_path, result(0), after.model_copy(update={"rows": after.rows[:1]}))
    assert found.exit_code == 0
    assert "not measured in B" in found.output


def test_nothing_in_common_is_an_error(tmp_path: Path) -> None:
    found = compare(tmp_path, result(0, ratios=False), result(1, ratios=False, machine="other"))
    assert found.exit_code == 1
    assert "nothing in common" in found.output
