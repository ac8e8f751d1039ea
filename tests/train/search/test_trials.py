"""The trials of a search: which settings are allowed, and what is kept when a search is killed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slipform.pipelines.errors import ConfigError
from slipform.pipelines.manifest import read_manifest, write_manifest
from slipform.preprocess.registry import val_options
from slipform.train.config.recipe import Recipe
from slipform.train.search import study as searching
from slipform.train.search.space import parse_ranges
from slipform.train.search.study import run_search
from tests.train.conftest import SMALL
from tests.train.search.test_search import TEXTS, Runs, trials


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["train.batch_size=20,0"], "batch_size"),
        (["loss.label_smoothing=0.0..2.0"], "label_smoothing"),
        (["optimizer.lr=0.1..0.2", "optimizer.name=sgd,addam"], "adam"),
        (["optimizer.nesterov=true,false", "optimizer.name=sgd,adam"], "nesterov"),
    ],
)
def test_every_value_of_a_range_is_checked_before_the_first_trial(
    texts: list[str], words: str, shapes: Path, tmp_path: Path, needs: Callable[[str], None]
) -> None:
    needs("optuna")
    with pytest.raises(ConfigError, match=words):
        run_search(
            Recipe("small", SMALL), shapes, tmp_path / "x", parse_ranges(texts), quiet=True
        )  # fmt: skip
    assert not (tmp_path / "x").exists()


def test_images_for_validation_are_a_split_or_a_fold(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needs: Callable[[str], None]
) -> None:
    needs("optuna")
    monkeypatch.setattr(searching, "run_jobs", runs := Runs())
    data, manifest = tmp_path / "data", read_manifest(shapes)
    shutil.copytree(shapes, data)
    splits = {name: split for name, split in manifest.splits.items() if name != "val"}
    write_manifest(data, manifest.model_copy(update={"splits": splits}))

    def go(name: str, texts: list[str], *sets: str) -> None:
        run_search(
            Recipe("small", SMALL), data, tmp_path / name, parse_ranges(texts), sets, trials=2,
            quiet=True,
        )  # fmt: skip

    with pytest.raises(ConfigError, match=r"no val split.*data\.fold") as error:
        go("none", TEXTS)
    named = re.search(r"prep with (--[\w-]+)", str(error.value))
    assert named is not None
    assert named[1] in {word for option in val_options(0.1) for word in option.opts}
    assert not (tmp_path / "none").exists()
    go("fold", TEXTS, "data.fold=1/5")
    go("range", [*TEXTS, "data.fold=1/5,2/5"])
    assert [row["state"] for name in ("fold", "range") for row in trials(tmp_path / name)] == [
        "complete"
    ] * 4
    assert all("--set=data.fold=1/5" in command for command in runs.commands[:2])


def test_trials_whose_settings_do_not_fit_each_other_fail_alone(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needs: Callable[[str], None]
) -> None:
    """Early stopping without a best epoch: each of the values is allowed."""
    needs("optuna")
    monkeypatch.setattr(searching, "run_jobs", runs := Runs())
    ranges = parse_ranges(["train.select=accuracy,last", "train.early_stop_after=0,3"])
    out = tmp_path / "s"
    run_search(Recipe("small", SMALL), shapes, out, ranges, trials=12, num_at_once=2, quiet=True)
    rows = trials(out)
    wrong = [(row["train.select"], row["train.early_stop_after"]) == ("last", "3") for row in rows]
    assert len(rows) == 12
    assert 0 < sum(wrong) < 12
    assert [row["state"] for row in rows] == ["fail" if x else "complete" for x in wrong]
    assert len(runs.commands) == 12 - sum(wrong)
    log = (out / f"trial-{wrong.index(True):03d}.log").read_text()
    assert "early_stop_after" in log


def test_a_trial_keeps_its_checkpoints_until_the_study_knows_its_result(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needs: Callable[[str], None]
) -> None:
    needs("optuna")
    from optuna.study import Study

    class Killed(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Killed

    class Saving(Runs):
        def finished(self, job: Any, summary: dict[str, Any]) -> None:
            (job.folder / "checkpoints").mkdir()
            super().finished(job, summary)

    def go() -> None:
        run_search(Recipe("small", SMALL), shapes, tmp_path, parse_ranges(TEXTS), trials=1,
                   quiet=True)  # fmt: skip

    monkeypatch.setattr(searching, "run_jobs", Saving())
    with monkeypatch.context() as patch:
        patch.setattr(Study, "tell", die)
        with pytest.raises(Killed):
            go()
    assert (tmp_path / "trial-000/checkpoints").is_dir()
    (tmp_path / "trial-000/checkpoints").rmdir()
    go()
    assert not (tmp_path / "trial-000/checkpoints").exists()
    assert [row["state"] for row in trials(tmp_path)] == ["complete"]


def test_another_description_is_the_same_search_and_other_settings_are_not(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needs: Callable[[str], None]
) -> None:
    needs("optuna")
    monkeypatch.setattr(searching, "run_jobs", Runs())
    recipe = Recipe("small", json.loads(json.dumps(SMALL)))

    def go(recipe: Recipe, *sets: str) -> None:
        run_search(recipe, shapes, tmp_path, parse_ranges(TEXTS), sets, trials=1, quiet=True)

    go(recipe)
    go(replace(recipe, base=recipe.base | {"description": "in other words"}))
    for changed, sets in (
        (replace(recipe, base=recipe.base | {"loss": {"label_smoothing": 0.1}}), ()),
        (recipe, ("loss.label_smoothing=0.1",)),
    ):
        with pytest.raises(ConfigError, match="states other settings"):
            go(changed, *sets)


def test_a_dataset_that_has_changed_is_another_search(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needs: Callable[[str], None]
) -> None:
    """Also if it has as many images as before. Studies of older versions do not say which."""
    needs("optuna")
    monkeypatch.setattr(searching, "run_jobs", Runs())
    data = tmp_path / "data"
    shutil.copytree(shapes, data)

    def go(out: str, trials: int) -> None:
        ranges = parse_ranges(TEXTS)
        run_search(Recipe("small", SMALL), data, tmp_path / out, ranges, trials=trials, quiet=True)

    with monkeypatch.context() as patch:
        asked = searching._Search._asked
        without = lambda self: {k: v for k, v in asked(self).items() if k != "images"}  # noqa: E731
        patch.setattr(searching._Search, "_asked", without)
        go("old", 1)
    go("new", 1)
    go("new", 2)
    go("old", 2)
    manifest = read_manifest(data)
    val = manifest.split("val").model_copy(update={"index_sha256": "0" * 64})
    write_manifest(data, manifest.model_copy(update={"splits": {**manifest.splits, "val": val}}))
    with pytest.raises(ConfigError, match="other images or labels"):
        go("new", 3)


def test_the_table_without_test_and_with_long_trials(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needs: Callable[[str], None]
) -> None:
    needs("optuna")

    class Long(Runs):
        def finished(self, job: Any, summary: dict[str, Any]) -> None:
            super().finished(job, {**summary, "test_accuracy": None, "seconds": 12345.6})

    monkeypatch.setattr(searching, "run_jobs", Long())
    run_search(
        Recipe("small", SMALL), shapes, tmp_path, parse_ranges(TEXTS), trials=1, quiet=True
    )  # fmt: skip
    (line,) = [x for x in (tmp_path / "trials.md").read_text().splitlines() if x[:4] == "| 0 "]
    assert [cell.strip() for cell in line.split("|")[3:5]] == ["", "12,346"]
    assert (trials(tmp_path)[0]["test_accuracy"], trials(tmp_path)[0]["seconds"]) == ("", "12345.6")
