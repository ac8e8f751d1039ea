"""The page about the reports' experiments: its totals, its tables, and the committed page."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from slipform.bench.commands.experiments import FOLDER
from slipform.bench.experiments import page, runs
from slipform.bench.experiments.conclusions import CHECKS, judge, read_checks
from slipform.bench.experiments.own import own_studies
from slipform.bench.experiments.runs import Outcome
from slipform.bench.experiments.weights import weight_files
from slipform.models.spec import PRETRAINED
from slipform.pipelines.errors import ConfigError
from slipform.train.config.recipe import SweepRun, load_recipe
from slipform.train.sweep.table import stated_settings
from tests.bench.experiments.conftest import WriteTable
from tests.train.config.reported import RUNS

NUM_RUNS, NUM_CONCLUSIONS = 142, 108  # of the corrected list


def _lines(recipe_name: str) -> dict[str, dict[str, Any]]:
    recipe = load_recipe(recipe_name)
    return {
        run.name: {"run": run.name, "seeds": 1, "settings": stated_settings(recipe, run)}
        for run in recipe.runs
    }


def test_the_committed_page_matches_the_committed_tables(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "experiments")
    for name in ("README.md", page.FIGURE):
        (tmp_path / "experiments" / name).unlink()
    page.write_page(tmp_path / "experiments")
    for name in ("README.md", page.FIGURE):
        fresh = (tmp_path / "experiments" / name).read_text(encoding="utf-8")
        assert fresh == (FOLDER / name).read_text(encoding="utf-8"), "run: bench experiments"


def test_the_totals_are_counted(folder: Path, write_table: WriteTable) -> None:
    own = _lines("caltech101/alexnet-learning-rate")
    own["lr-0.1"] |= {"seeds": 2, "val_accuracy": 0.2, "test_accuracy": 0.19}
    own["lr-0.1"]["machine"] = "a, 1 cores"  # as older versions wrote it
    own["lr-0.01"] |= {"val_accuracy": 0.3, "test_accuracy": 0.29, "machine": "a, 1 core"}
    other = own["lr-0.1"]["settings"]
    own["lr-0.001"] |= {"settings": other, "val_accuracy": 0.4, "note": "epochs: 5, not 30"}
    own["lr-1.0"] |= {"seeds": 0, "note": "diverged, as reported"}
    write_table("caltech101/alexnet-learning-rate", list(own.values()))
    found = runs.outcomes(folder)
    assert len(found) == NUM_RUNS
    states = {one.run.name: one.state for one in found if one.study == "A1"}
    assert states == {
        "lr-0.1": "measured",
        "lr-0.01": "measured",
        "lr-0.001": "older or shorter",
        "lr-1.0": "measured",
    }
    text = page.write_page(folder).read_text(encoding="utf-8")
    assert f"Of {NUM_RUNS} runs:" in text
    assert "- 3 have a result of the recipe's settings at full length" in text
    assert "(1 with 1 seed, 1 with 2 seeds; 1 diverged)." in text
    assert "- 1 have only a result of fewer epochs" in text
    assert "Trained on: a, 1 core (2 runs)." in text
    verdicts = re.findall(r"^\| A1 \| [^|]* \| ([a-z ]+) \|", text, re.MULTILINE)
    # lr-0.001 has no result with its settings, so checks that need it were not tested.
    assert verdicts == ["holds", *["not tested"] * 4, "holds"]
    assert (
        f"Of {NUM_CONCLUSIONS} conclusions of the reports 2 hold, 0 hold as far as tested" in text
    )
    svg = (folder / page.FIGURE).read_text(encoding="utf-8")
    assert "A1 lr-0.1: reported 0.185, measured 0.2" in svg
    assert svg.count('<circle class="ours"') == 2 + 1  # and one in the legend
    assert svg.count('<circle class="hollow"') == 1 + 1


def test_of_several_results_the_one_with_most_seeds_counts(
    folder: Path, write_table: WriteTable
) -> None:
    name = "caltech101/alexnet-learning-rate"
    for seeds, accuracy in ((1, 0.2), (3, 0.3), (2, 0.4)):
        line = _lines(name)["lr-0.1"] | {"seeds": seeds, "val_accuracy": accuracy}
        write_table(name, [line | {"machine": f"{seeds}", "precision": "float32"}])
        (folder / "alexnet-learning-rate").rename(folder / f"{accuracy}")
    (one,) = (one for one in runs.outcomes(folder) if one.state == "measured")
    assert (one.seeds, one.measured["val_accuracy"]) == (3, 0.3)
    text = page.write_page(folder).read_text(encoding="utf-8")
    assert "| A1 lr-0.1 | val | 0.1848 | 0.3000 | 3 |  |  | last epoch | 3 | float32 |  |" in text


def test_a_run_with_other_weights_is_marked_and_is_no_evidence(
    folder: Path, write_table: WriteTable
) -> None:
    own = _lines("cifar10/fine-tuning-32")
    for line in own.values():
        line |= {"settings": "other", "differs": "model.weights=runs/cifar100|x"}
        line |= {"test_accuracy": 0.5}
    write_table("cifar10/fine-tuning-32", list(own.values()))
    found = [one for one in runs.outcomes(folder) if one.study == "E5"]
    assert {one.state for one in found} == {"other settings"}
    assert runs.results_of(found) == {}
    text = page.write_page(folder).read_text(encoding="utf-8")
    assert "- 9 have only a result with other settings" in text
    assert text.count("| model.weights=runs/cifar100/x |") == 9
    # Their rows still wait for the report's weights.
    assert "## The 76 runs that wait for weights" in text


def test_curves_of_epochs_are_read_and_last_and_best_are_shown(
    folder: Path, write_table: WriteTable
) -> None:
    name = "caltech101/alexnet-learning-rate"
    own = _lines(name)["lr-0.01"] | {"val_accuracy": 0.33, "test_accuracy": 0.3}
    epochs = [
        {"run": "lr-0.01", "repeat": f"seed-{seed}", "epoch": epoch, "train_loss": 5 - epoch,
         "train_accuracy": 0.1, "val_loss": 4, "val_accuracy": value + 0.1 * seed, "test_loss": ""}
        for seed in (0, 1)
        for epoch, value in enumerate([0.1, 0.2, 0.3, 0.28], 1)
    ]  # fmt: skip
    write_table(name, [own], epochs)
    one = next(one for one in runs.outcomes(folder) if one.state == "measured")
    assert one.epochs["val_accuracy"] == pytest.approx([0.15, 0.25, 0.35, 0.33])
    assert one.epochs["train_loss"] == [4, 3, 2, 1]
    assert "test_loss" not in one.epochs
    text = page.write_page(folder).read_text(encoding="utf-8")
    assert (
        "| A1 lr-0.01 | test | 0.29 | 0.3000 | 1 | val 0.3300 | val 0.3500 (3) | last epoch |"
        in text
    )


def test_every_check_names_results_that_exist() -> None:
    recipes = [*runs.studies(), *own_studies()]
    names = {
        recipe.study or recipe.report["own"]: {run.name for run in recipe.runs}
        for recipe in recipes
    }
    for study, checks in read_checks(FOLDER / CHECKS, recipes).items():
        for check in checks:
            for other, run in re.findall(r'(?:\b([A-E]\d)\.)?\w+\["([^"]+)"\]', check):
                assert run in names[other or study], (study, check)


def test_every_check_holds_for_the_values_that_the_report_prints() -> None:
    """A check that the report's own numbers refute does not check the report's conclusion."""
    printed: dict[str, dict[str, Any]] = {}
    for run in RUNS:
        values = {key: value for key, value in run.printed.items() if key != "outcome"}
        if "minutes" in values:
            values["seconds"] = 60 * values.pop("minutes")
        values["diverged"] = run.printed.get("outcome") == "diverged"
        names = {"loss": "epochs_train_loss", "val_accuracy": "epochs_val_accuracy"}
        values |= {names[key]: curve for key, curve in run.curve.items()}
        printed.setdefault(run.study, {})[run.recipe()[1].name] = values
    recipes = runs.studies()
    judged = judge(recipes, read_checks(FOLDER / CHECKS, recipes), printed)
    counted = Counter(one.verdict for one in judged)
    assert [one for one in judged if one.verdict == "does not hold"] == []
    assert counted["holds"] > 50, counted


def test_a_study_with_too_few_checks_is_named(folder: Path) -> None:
    text = (folder / CHECKS).read_text(encoding="utf-8")
    (folder / CHECKS).write_text(text.replace("A1 = [\n", "A1 = []\nunused = [\n"))
    with pytest.raises(ConfigError, match="A1 has 0 checks"):
        page.write_page(folder)


@pytest.mark.parametrize("word", [*PRETRAINED, "IMAGENET1K_V1"])
def test_the_file_of_each_word_for_weights(word: str) -> None:
    one = Outcome(
        "A1", "r", SweepRun("a", {}, {}), {"name": "resnet18", "weights": word}, "not run"
    )
    ((name, file, megabytes),) = weight_files([one])
    assert (name, file) == ("resnet18", "resnet18-f37072fd.pth")
    assert megabytes == pytest.approx(46.8, abs=0.1)
