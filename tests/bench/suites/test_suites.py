"""Parts of the suites: required multiples, seconds from epoch records, the tune profile, tables."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from slipform.bench.race.measure import estimate
from slipform.bench.race.race import QUICK
from slipform.bench.race.recipe_run import from_epochs
from slipform.bench.result.environment import stamp
from slipform.bench.result.result import Row, read_result
from slipform.bench.suites import loaders, prep, tune
from slipform.bench.work import usual_work
from slipform.pipelines.beton import Beton
from slipform.pipelines.errors import SlipformError
from slipform.pipelines.profile import profile_key
from slipform.pipelines.project import project


def race(multiple: float | None, *, jitter: bool = False, data: str = "photos") -> list[Row]:
    case = {
        "data": data, "input": "streaming", "color_jitter": jitter, "loader": "slipform host",
    }  # fmt: skip
    figures = {"multiple_of_ffcv": estimate([multiple])} if multiple is not None else {}
    return [
        Row(suite="loaders", case=case, settings={"executor": "host"}, figures=figures),
        Row(
            suite="loaders",
            case=case | {"loader": "slipform dali"},
            settings={"executor": "dali"},
            figures={},
        ),
        Row(
            suite="loaders",
            case=case | {"loader": "timm_loader"},
            figures={"multiple_of_ffcv": estimate([99.0])},
        ),  # not Slipform's
    ]


def test_required_multiples() -> None:
    assert loaders.shortfalls(race(1.6)) == []
    assert loaders.shortfalls(race(1.4)) == [
        "photos, streaming: 1.40 times ffcv, at least 1.5 is required"
    ]
    slow = [*race(1.6), *race(1.4, data="other")]  # one dataset does not hide another
    assert [text.partition(":")[0] for text in loaders.shortfalls(slow)] == ["other, streaming"]
    assert loaders.shortfalls(race(3.9, jitter=True)) == [
        "photos, streaming, color jitter: 3.90 times ffcv, at least 4.0 is required"
    ]
    assert "no multiple" in loaders.shortfalls(race(None))[0]
    fast = Row(
        suite="prep", case={"way": "slipform raw"}, figures={"multiple_of_ffcv": estimate([3.1])}
    )
    assert prep.shortfalls([fast]) == []
    assert len(prep.shortfalls([fast.model_copy(update={"figures": {}})])) == 1


def written(way: str, images_per_second: float, cores: float, **figures: float) -> Row:
    numbers = {"images_per_second": images_per_second, "cpu_cores": cores, **figures}
    return Row(
        suite="prep",
        case={"data": "photos", "way": way},
        figures={name: estimate([value]) for name, value in numbers.items()},
    )


def test_the_cost_of_the_check_is_in_processor_time() -> None:
    rows = [
        written("slipform keep, no check", 10_000, 1.0),  # 100 us of a core
        written("slipform keep", 5_000, 2.0, multiple_of_ffcv=5.0),  # 400 us
        written("ffcv jpg quality 90", 1_000, 2.0),
    ]
    cost = "takes 300 µs of processor time an image, 75 % of the whole (photos)."
    assert prep.check_cost(rows) == f"The check of kept JPEGs {cost}"
    assert prep.check_cost(rows[1:]) == prep.check_cost([]) == ""
    compared = [rows[0], written("slipform keep", 5_000, 2.0, check_ratio=0.72), rows[2]]
    assert prep.check_cost(compared).endswith(
        "(photos). It takes 0.72 times what libjpeg-turbo takes to read the same codes."
    )
    found = prep.verdict([rows])
    assert found is not None
    assert found.sentence.startswith("Slipform writes a dataset 5.0 to 10 times as fast")
    assert found.sentence.endswith(cost)
    without = prep.verdict([rows[1:]])
    assert without is not None
    assert without.sentence.endswith("the other writer.")
    assert prep.verdict([rows[:2]]) is None


def test_seconds_are_computed_from_epoch_records() -> None:
    # ten seconds of the first epoch are compilation
    lines = [
        {"train_seconds": seconds, "val_accuracy": a}
        for seconds, a in ((12.0, 0.5), (2.0, 0.95), (2.0, 0.96))
    ]
    found = from_epochs(lines, target=0.94, accuracy=0.5)
    assert found == pytest.approx(
        {"train_seconds": 16.0, "start_up_seconds": 10.0, "seconds_to_target": 14.0}
    )
    assert "seconds_to_target" not in from_epochs(lines, target=0.97, accuracy=0.98)


def test_the_last_accuracy_is_used_without_a_val_split() -> None:
    lines = [{"train_seconds": seconds, "val_accuracy": None} for seconds in (12.0, 2.0, 2.0)]
    assert from_epochs(lines, target=0.94, accuracy=0.941)["seconds_to_target"] == pytest.approx(
        16.0
    )
    assert "seconds_to_target" not in from_epochs(lines, target=0.94, accuracy=0.939)


@pytest.mark.parametrize("executor", ["host", "stream"])
def test_the_share_of_the_decoder_is_tuned_if_it_has_an_effect(
    executor: str, shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = usual_work(shapes, batch_size=60, cores=4, device="cpu", dtype="float32")
    monkeypatch.setattr("slipform.pipelines.machine.free_memory_bytes", lambda device: 2**40)
    tried: list[str] = []

    def race(work: Any, choice: str, settings: list[Any], effort: Any) -> tuple[list[Row], Any]:
        tried.append(choice)
        wanted = {"executor": executor, "decoder_share": 0.25}
        return [], next((one for one in settings if one[choice] == wanted.get(choice)), settings[0])

    monkeypatch.setattr(tune, "_race", race)
    best, _ = tune.tune(replace(work, device="cuda"), 1e9, QUICK)
    assert tried == ["executor", "threads", "prefetch", *["decoder_share"] * (executor != "host")]
    assert best["executor"] == executor
    assert best["decoder_share"] == ("auto" if executor == "host" else 0.25)


def test_a_wrong_recipe_ends_tune_before_the_measurements(
    shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune, "tune", None)
    found = CliRunner().invoke(tune.command, [str(shapes), "--recipe", "shapes/dem"])
    assert found.exit_code == 1
    assert "shapes/demo" in found.output


def test_a_step_that_fails_leaves_what_tune_measured_before(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = Row(
        suite="tune",
        case={"data": "shapes", "choice": "executor", "value": "host"},
        figures={"images_per_second": estimate([1.0])},
    )

    def fail(*_: object) -> list[Row]:
        raise SlipformError("no memory is left")

    monkeypatch.setattr(tune, "tune", lambda *_: ({"executor": "host"}, [row]))
    monkeypatch.setattr(tune, "tune_steps", fail)
    files = ["--out", str(tmp_path / "t.json"), "--profile", str(tmp_path / "profile.json")]
    found = CliRunner().invoke(tune.command, [str(shapes), "--recipe", "shapes/demo", *files])
    assert found.exit_code == 1
    assert "no memory is left" in found.output
    assert read_result(tmp_path / "t.json.partial").rows == [row]
    assert '"executor": "host"' in (tmp_path / "profile.json").read_text()


def built_in(executors: list[str]) -> list[str]:
    """Those that come with Slipform. Every file in pipelines/executors is one more."""
    return [name for name in executors if name in ("dali", "host", "resident", "stream")]


def test_resident_is_tried_only_if_it_fits(
    shapes_raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = usual_work(shapes_raw, batch_size=60, cores=4, device="cpu", dtype="float32")
    found = tune.choices(work)
    assert built_in(found.pop("executor")) == ["host", "dali", "resident"]
    assert found == {"threads": [0, 2, 3, 8], "prefetch": [2, 1, 4, 8]}
    needed = Beton(shapes_raw / "train.beton").resident_bytes()
    assert needed == 240 * 32 * 32 * 3
    monkeypatch.setattr(
        "slipform.pipelines.machine.free_memory_bytes", lambda device: 2 * needed - 1
    )
    assert built_in(tune.choices(work)["executor"]) == ["host", "dali"]
    on_gpu = tune.choices(replace(work, device="cuda", stored="jpeg"))
    assert built_in(on_gpu["executor"]) == ["dali", "host", "stream"]
    assert on_gpu["decoder_share"] == ["auto", 0.0, 0.25, 0.5, 0.75, 1.0]
    assert "decoder_share" not in tune.choices(replace(work, device="cuda"))
    key = profile_key(work.stored, work.augment.image_size, work.device)
    assert key.endswith(f"; raw; 32 px; cpu; slipform {project().version}")
    assert stamp().machine.partition(",")[0] in key
