"""The same command of a suite goes on after what it measured before it was stopped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from slipform.bench.race import loading, worker
from slipform.bench.race.measure import estimate
from slipform.bench.race.race import QUICK
from slipform.bench.race.training_point import Point
from slipform.bench.result import environment as environments
from slipform.bench.result.environment import stamp
from slipform.bench.result.result import Environment, Row, Settings, read_result
from slipform.bench.suites import Kept, finish
from slipform.bench.suites import loaders as loaders_suite
from slipform.bench.suites import train as train_suite

Rows = list[Row]


@pytest.fixture(scope="module")
def environment() -> Environment:
    return stamp().model_copy(update={"commit": "0123456789ab"})


def _row(suite: str, case: Settings, value: float = 1.0) -> Row:
    return Row(suite=suite, case=case, figures={"images_per_second": estimate([value])})


def _stop_after(
    suite: str, rows: list[Row], out: Path, environment: Environment, kept: Kept | None = None
) -> None:
    """A command that is stopped when it has measured rows."""

    def measured() -> Iterator[Row]:
        yield from rows
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finish(suite, measured(), out, environment, kept)


def test_rows_are_kept_for_the_same_command_alone(
    tmp_path: Path,
    environment: Environment,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, cases = tmp_path / "prep.json", [{"data": "d", "way": way} for way in "ab"]
    rows = [_row("prep", case) for case in cases]
    assert not Kept("prep", out, environment, []).of(cases[0])  # nothing was measured
    _stop_after("prep", rows, out, environment)
    capsys.readouterr()
    later = environment.model_copy(update={"date": "2030-01-01T00:00:00", "load_average": 2.5})
    kept = Kept("prep", out, later, [])
    assert "going on after the 2 rows" in capsys.readouterr().err
    assert kept.of(cases[1]) == [rows[1]]
    assert kept.of(*cases) == rows
    assert not kept.of({"data": "d", "way": "c"})
    assert not kept.of(*cases, {"data": "d", "way": "c"})  # one was not measured
    others = {"commit": "ba9876543210", "cpu": "another one", "versions": {"torch": "0.0"}}
    for name, value in others.items():
        other = environment.model_copy(update={name: value})
        assert not Kept("prep", out, other, []).of(*cases), name
        assert "all is measured again" in capsys.readouterr().err
        (old,) = tmp_path.glob("*.old")
        assert read_result(old).rows == rows  # they took hours, perhaps
        _stop_after("prep", rows, out, environment)
    with monkeypatch.context() as patch:
        patch.setattr(environments, "command_line", lambda: "bench prep other")
        assert not Kept("prep", out, environment, []).of(*cases)
    dirty = environment.model_copy(update={"commit": "0123456789ab-dirty"})
    _stop_after("prep", rows, out, dirty)  # nobody knows whether the changes are the same
    assert not Kept("prep", out, dirty, []).of(*cases)


def test_what_is_not_kept(
    shapes_raw: Path, tmp_path: Path, environment: Environment, capsys: pytest.CaptureFixture[str]
) -> None:
    """What failed, rows of a dataset that prep has written since, and a file that is no result."""
    out, cases = tmp_path / "prep.json", [{"data": "d", "way": way} for way in "abc"]
    rows = [
        _row("prep", cases[0]),
        Row(suite="prep", case=cases[1], status="failed", note="a signal"),
        Row(suite="prep", case=cases[2], status="not possible", note="no counterpart"),
    ]
    later = environment.model_copy(update={"date": "2100-01-01T00:00:00+00:00"})
    _stop_after("prep", rows, out, later)
    assert list(Kept("prep", out, later, [shapes_raw]).rows.values()) == [rows[0], rows[2]]
    before = environment.model_copy(update={"date": "2000-01-01T00:00:00+00:00"})
    _stop_after("prep", rows, out, before)
    assert Kept("prep", out, before, []).rows
    assert not Kept("prep", out, before, [shapes_raw]).rows
    (tmp_path / "prep.json.partial").write_text("{")
    capsys.readouterr()
    assert not Kept("prep", out, before, []).rows
    assert "is no result of bench" in capsys.readouterr().err


def test_a_second_stop_loses_no_row(tmp_path: Path, environment: Environment) -> None:
    """Also if it comes before the rows of the first time are asked for again."""
    out = tmp_path / "prep.json"
    rows = [_row("prep", {"data": "d", "way": way}) for way in "abc"]
    _stop_after("prep", rows[:2], out, environment)
    _stop_after("prep", rows[2:], out, environment, Kept("prep", out, environment, []))
    assert list(Kept("prep", out, environment, []).rows.values()) == rows


def test_a_race_is_kept_if_all_its_loaders_are(
    shapes_raw: Path, tmp_path: Path, environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    conditions = loading.Conditions(cores=2, inputs=("small",))
    measured: list[tuple[bool, str]] = []

    def run_race(race: loading.Race, peers: list[str], executors: list[str], *_: object) -> Rows:
        names = loading.entrants(race, peers, executors)
        measured.extend((race.color_jitter, name) for name in names)
        return [_row("loaders", race.case(name), 2.0) for name in names]

    monkeypatch.setattr(loading, "run_race", run_race)

    def run(kept: Kept | None) -> list[Row]:
        peers = ["ffcv_loader"]
        return list(loaders_suite.run([shapes_raw], conditions, peers, QUICK, kept))

    names = ["slipform resident", "slipform resident, own memory", "ffcv_loader"]
    whole = run(None)
    assert measured == [(jitter, name) for jitter in (False, True) for name in names]
    out = tmp_path / "loaders.json"
    # The first race is whole. Of the second one, a row is missing.
    before = [_row("loaders", row.case) for row in whole[:5]]
    _stop_after("loaders", before, out, environment)
    measured.clear()
    assert run(Kept("loaders", out, environment, [])) == before[:3] + whole[3:]
    assert measured == [(True, name) for name in names]


def test_a_point_of_training_is_not_measured_again(
    shapes_raw: Path, tmp_path: Path, environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = [Point(str(shapes_raw), "tiny", size, precision="fp32") for size in (8, 16)]
    sizes: list[int] = []

    def isolated(_: object, point: Point, *__: object) -> object:
        sizes.append(point.batch_size)
        raise worker.CallFailed("this test")

    monkeypatch.setattr(worker, "isolated", isolated)
    (first, _) = train_suite.run(points, QUICK)
    done = first.model_copy(update={"status": "ok", "note": ""})
    _stop_after("train", [done], tmp_path / "train.json", environment)
    sizes.clear()
    kept = Kept("train", tmp_path / "train.json", environment, [])
    rows = list(train_suite.run(points, QUICK, kept=kept))
    assert sizes == [16]
    assert rows[0] == done
    assert rows[1].status == "failed"
