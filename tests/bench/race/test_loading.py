"""The races with a dataset: their kinds of work, and how long each takes."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from slipform.bench.race import loading
from slipform.bench.race.contestant import Opening
from slipform.bench.race.loading import Conditions, races, run_race
from slipform.bench.race.race import FULL, Effort
from slipform.bench.work import has_photos
from slipform.pipelines.loader import Loader
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


@dataclass
class Made:
    """What a race was made of."""

    efforts: list[Effort] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)
    settings: list[tuple[str, Any]] = field(default_factory=list)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    """Of the next race, whose contestants are not opened."""
    found = Made()

    class Stub:
        def __init__(self, module: str, work: Any, effort: Effort, fixed: Any) -> None:
            found.efforts.append(effort)
            found.settings.append((module, fixed))
            self.opening = Opening(status="ok", note="", settings=fixed)

        def __enter__(self) -> Stub:
            return self

        def __exit__(self, *_: object) -> None: ...

        def measure(self) -> None: ...

    def run_rounds(running: Any, count: int, *, say: Any) -> Any:
        found.rounds.append(count)
        return SimpleNamespace(values={}, failures={})

    monkeypatch.setattr(loading, "Contestant", Stub)
    monkeypatch.setattr(loading, "run_rounds", run_rounds)
    return found


@pytest.mark.parametrize("name", ["photos", "shapes"])
def test_photos_take_fewer_rounds(name: str, request: pytest.FixtureRequest, made: Made) -> None:
    """With eight batches in each span, eleven rounds of photos would take hours."""
    (race, *_) = races(request.getfixturevalue(name), Conditions(cores=2))
    run_race(race, ["ffcv_loader"], ["host"], FULL, lambda text: None)
    few = name == "photos"
    assert made.rounds == [5 if few else FULL.rounds]
    assert [one.search for one in made.efforts] == [not few] * 3
    assert {one.min_batches for one in made.efforts} == {4 if few else FULL.min_batches}
    assert {one.seconds for one in made.efforts} == {FULL.seconds}


def test_the_first_executor_also_takes_part_as_it_is_by_default(shapes: Path, made: Made) -> None:
    """On a CPU, where memory of its own costs a batch time."""
    (race, *_) = races(shapes, Conditions(cores=2))
    rows = run_race(race, ["ffcv_loader"], ["host", "dali", "stream"], FULL, lambda text: None)
    own = ("slipform_loader", {"executor": "host", "reuse_buffers": False})
    assert made.settings == [
        ("slipform_loader", {"executor": "host"}),
        ("slipform_loader", {"executor": "dali"}),
        own,
        ("ffcv_loader", {}),
    ]
    assert rows[2].case["loader"] == "slipform host, own memory"
    default = inspect.signature(Loader).parameters["reuse_buffers"].default
    assert default is False  # the row is to show it
    made.settings.clear()
    on_gpu = replace(race, work=replace(race.work, device="cuda"))
    run_race(on_gpu, [], ["host", "stream"], FULL, lambda text: None)
    assert made.settings == [("slipform_loader", {"executor": one}) for one in ("host", "stream")]
