"""The races with a dataset: their kinds of work, and how long each takes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from slipform.bench.race import loading
from slipform.bench.race.contestant import Opening
from slipform.bench.race.loading import Conditions, races, run_race
from slipform.bench.race.race import FULL, Effort
from slipform.bench.work import has_photos
from slipform.preprocess.prep import prepare


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "photos"
    numbers: dict[str, Any] = {"num_train": 3, "num_val": 0, "num_test": 0}
    prepare("shapes", out=folder, min_size=1000, max_size=1100, **numbers)
    return folder


def _kinds(folder: Path, **options: Any) -> list[tuple[str, bool, int]]:
    found = races(folder, Conditions(cores=2, **options))
    return [(one.input, one.color_jitter, one.work.batch_size) for one in found]


def test_the_kinds_of_work(photos: Path, shapes: Path, shapes_raw: Path) -> None:
    both = [(name, jitter, 128) for name in ("streaming", "resident") for jitter in (False, True)]
    assert _kinds(shapes) == both
    assert _kinds(shapes, jitter=(True,), batch_size=9) == [
        ("streaming", True, 9),
        ("resident", True, 9),
    ]
    assert _kinds(shapes_raw) == [("small", False, 512), ("small", True, 512)]
    assert [has_photos(folder) for folder in (photos, shapes, shapes_raw)] == [True, False, False]
    assert _kinds(photos) == [("streaming", False, 64)]
    assert _kinds(photos, jitter=(True,)) == [("streaming", True, 64)]
    assert _kinds(photos, inputs=("resident",)) == []


@pytest.mark.parametrize("name", ["photos", "shapes"])
def test_photos_take_fewer_rounds(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With eight batches in each span, eleven rounds of photos would take hours."""
    efforts: list[Effort] = []
    rounds: list[int] = []

    class Stub:
        def __init__(self, module: str, work: Any, effort: Effort, fixed: Any) -> None:
            efforts.append(effort)
            self.opening = Opening(status="ok", note="", settings=fixed)

        def __enter__(self) -> Stub:
            return self

        def __exit__(self, *_: object) -> None: ...

        def measure(self) -> None: ...

    def run_rounds(running: Any, count: int) -> Any:
        rounds.append(count)
        return SimpleNamespace(values={}, failures={})

    monkeypatch.setattr(loading, "Contestant", Stub)
    monkeypatch.setattr(loading, "run_rounds", run_rounds)
    (race, *_) = races(request.getfixturevalue(name), Conditions(cores=2))
    run_race(race, ["ffcv_loader"], ["host"], FULL, lambda text: None)
    few = name == "photos"
    assert rounds == [5 if few else FULL.rounds]
    assert [one.search for one in efforts] == [not few] * 2
    assert {one.min_batches for one in efforts} == {4 if few else FULL.min_batches}
    assert {one.seconds for one in efforts} == {FULL.seconds}
