"""What was tried about a difference, and what needs no training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slipform.bench.experiments import untrained
from slipform.bench.experiments.differences import differences_section, tried_recipes
from slipform.bench.experiments.runs import outcomes, studies, sweep_tables
from slipform.train.config.recipe import load_recipe
from slipform.train.config.resolve import resolve
from slipform.train.sweep.table import stated_settings
from tests.bench.experiments.conftest import WriteTable
from tests.train.config.reported import NUM_CLASSES, RUNS


def _of(name: str) -> Any:
    return next(recipe for recipe in tried_recipes() if Path(recipe.name).stem == name)


def test_a_setting_explains_a_difference_only_if_it_was_run(
    folder: Path, write_table: WriteTable
) -> None:
    recipe, tried = load_recipe("mnist/convolutional"), _of("e2-lowest-rate")
    lines = [
        {"run": run.name, "seeds": 1, "settings": stated_settings(recipe, run),
         "test_accuracy": {"lr-0.0001": 0.2, "adam": 0.8}.get(run.name, 0.99)}
        for run in recipe.runs
    ]  # fmt: skip
    write_table(recipe.name, lines)
    before = "\n".join(differences_section(outcomes(folder), sweep_tables(folder)))
    assert "**E2, `lr-0.0001`**: test_accuracy reported 0.89, measured 0.200." in before
    assert "Nothing was tried yet: `train DATA --recipe bench/experiments/tried/e2" in before
    assert "Not explained, nothing was tried: E2 `adam` (0.800, reported 0.99)." in before
    accuracies = {"rate-0.001": 0.9, "momentum-0.9": 0.95, "wide": 0.89}
    lines = [
        {"run": run.name, "seeds": 3, "settings": stated_settings(tried, run),
         "test_accuracy": accuracies.get(run.name, "")}
        for run in tried.runs
    ]  # fmt: skip
    lines[-1]["settings"] = "of an earlier recipe"  # the run "wide"
    write_table(tried.name, lines)
    after = "\n".join(differences_section(outcomes(folder), sweep_tables(folder)))
    assert "The report's value comes with: optimizer.lr 0.001.\n" in after
    assert "| optimizer.momentum 0.9 | 0.9500 | 3 |" in after
    assert "wide" not in after
    assert "0.8900" not in after


def test_the_precision_that_all_tries_have_is_no_explanation(
    folder: Path, write_table: WriteTable
) -> None:
    tried = _of("e3-cnn")
    lines = [
        {"run": run.name, "seeds": 1, "settings": "of before", "test_accuracy": 0.64}
        for run in tried.runs
    ]
    write_table(tried.name, lines)
    before = "\n".join(differences_section(outcomes(folder), sweep_tables(folder)))
    assert "It was tried with other settings only: `train DATA --recipe bench/exp" in before
    for line, run in zip(lines, tried.runs, strict=True):
        line["settings"] = stated_settings(tried, run)
    (folder / "e3-cnn" / "table.csv").unlink()
    (folder / "e3-cnn" / "table.md").unlink()
    (folder / "e3-cnn").rmdir()
    write_table(tried.name, lines)
    after = "\n".join(differences_section(outcomes(folder), sweep_tables(folder)))
    assert "comes with: model.options.widths 6 16 120 84; model.options.pools each;" in after
    assert "All tries have train.precision bf16." in after
    assert "| model.options.widths 6 16 120 84 | 0.6400 | 1 |" in after


def test_what_is_tried_is_a_run_of_the_report_with_few_settings_changed() -> None:
    """Everything that a recipe in tried/ does not change is as in the recipe of the study."""
    of = {recipe.study: recipe for recipe in studies()}
    assert len(tried_recipes()) >= 3
    for tried in tried_recipes():
        recipe = of[tried.report["study"]]
        run = next(run for run in recipe.runs if run.name == tried.report["of"])
        assert tried.report["column"] in run.reported
        assert tried.prep == recipe.prep
        wanted = resolve(recipe, run=run).model_dump(exclude={"description"})
        found = resolve(tried).model_dump(exclude={"description"})
        assert found == wanted, tried.name
        for one in tried.runs:
            resolve(tried, run=one)


def test_what_needs_no_training_is_read_and_compared(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = [recipe for recipe in studies() if recipe.study in ("B4", "A8")]
    monkeypatch.setattr(untrained, "studies", lambda: wanted)
    said: list[str] = []
    untrained.measure_untrained(folder, tmp_path / "no data", said.append)
    values = untrained.read_untrained(folder)
    counts = {run: own["trainable_parameters"] for (study, run), own in values.items()}
    printed = {run.recipe()[1].name: run.printed for run in RUNS if run.study == "B4"}
    for run, own in printed.items():
        assert counts[run] == own["trainable_parameters"]
    assert [text.split(":")[0] for text in said] == ["A8 resnet34", "A8 alexnet"]
    text = "\n".join(untrained.untrained_section(outcomes(folder), values))
    assert "has the parameters of 5 runs" in text
    assert "| B4 nothing-frozen | trainable parameters | 57,417,637 | 57,417,637 |" in text
    assert "first loss" not in text
    assert untrained._CLASSES == NUM_CLASSES


@pytest.mark.slow
def test_the_first_loss_and_the_first_layer(shapes: Path) -> None:
    """Multi-margin loss of C classes begins near (C - 1) / C; AlexNet's weights are uniform."""
    recipe = load_recipe("caltech101/resnet34-alexnet-multi-margin")
    small = {**recipe.base, "augment": {"image_size": 64, "resize": 64}}
    small["train"] = {**recipe.base["train"], "batch_size": 32}
    found = {
        run.name: untrained._first_step(
            type(recipe)(recipe.name, small), type(run)(run.name, {"model": model}, {}), shapes
        )
        for run, model in zip(recipe.runs, ({"name": "resnet18"}, {"name": "alexnet"}), strict=True)
    }
    assert found["alexnet"]["first_layer_kurtosis"] == pytest.approx(-1.2, abs=0.1)
    assert found["resnet34"]["first_layer_kurtosis"] == pytest.approx(0, abs=0.2)
    assert found["alexnet"]["first_loss"] == pytest.approx(0.8, abs=0.05)  # 5 classes
