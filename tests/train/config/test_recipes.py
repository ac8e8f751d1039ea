"""The recipes compared with the list of reported experiments, key by key, in both directions."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from slipform.models.spec import ModelConfig
from slipform.train.config.recipe import load_runs
from slipform.train.config.resolve import resolve
from slipform.train.config.run_config import RunConfig
from slipform.train.sweep.sweep import prep_command
from tests.train.config.reported import RECIPES, REPORTED_KEYS, RUNS, STUDIES, STUDY_KEYS, Reported

# Settings that a recipe may have in addition to the keys of the list, and the studies or runs that
# may have them. The list states them in other words (checked below) or leaves them open (see the
# recipe's readings).
OPEN = {
    "augment.flip": "ABCDE",
    "augment.color_jitter": "ABE",
    "augment.rotation": ("B5", "E4.7"),
    "augment.perspective": ("B5",),
    "augment.grayscale": ("B5",),
    "augment.corners": ("B5", "C4", "E4.7"),
    "augment.normalize": ("E1", "E2"),
    "augment.resize": ("D", "E"),  # small images keep their size
    "augment.evaluation_resize": ("D3",),
    "model.options": ("D", "E"),
    "model.frozen_norm": ("E3.5", "E5", "E6"),
    "model.train_layers": ("E3.5",),
    "schedule.milestones": ("E3.2",),
    "optimizer.lr": ("C5.2",),
    "train.batch_size": ("C5",),
    "train.epochs": ("C5.2", "E6.10", "E6.11", "E6.12"),
    "train.early_stop_after": ("E6.10", "E6.11", "E6.12"),
    "train.restart_clears_momentum": "B",
    "train.select": ("A", "B", "E6.10", "E6.11", "E6.12"),
    "train.test_each_epoch": "DE",  # their curves are of test
}
# Options of the nets that the comments of the list describe.
OPEN_OPTIONS = {
    "D2.3": {"test_dropout"},
    "E1": {"gray"},
    "E2": {"gray", "pools", "widths"},
    "E3": {"pools", "widths"},
    "E4": {"pools", "widths", "norms", "small_stem"},
}
FREEZING = {"model.freeze", "model.train_layers"}


def _config(run: Reported) -> RunConfig:
    recipe, ours = run.recipe()
    return resolve(recipe, run=ours)


def _at(config: RunConfig, dotted: str) -> Any:
    value: Any = config.model_dump()
    for key in dotted.split("."):
        value = value.get(key)
    return _listed(value)


def _listed(value: Any) -> Any:
    return [_listed(item) for item in value] if isinstance(value, tuple | list) else value


def _changed(config: RunConfig) -> set[str]:
    """The settings that differ from the defaults of the same optimizer, schedule and loss."""
    names = set()
    for section in set(type(config).model_fields) - {"description"}:
        table = getattr(config, section)
        default = type(table)()
        names |= {
            f"{section}.{key}"
            for key, value in vars(table).items()
            if value != getattr(default, key)
        }
    return names


def test_the_list_is_complete_and_its_words_are_known() -> None:
    assert (len(STUDIES), len(RUNS)) == (29, 142)
    for study in STUDIES.values():
        assert set(study) <= STUDY_KEYS, study["id"]
    for run in RUNS:
        assert set(run.printed) <= REPORTED_KEYS, run.name
        assert set(run.curve) <= {"loss", "val_accuracy"}, run.name


def test_every_study_has_one_recipe_and_every_run_one_of_its_runs() -> None:
    assert Counter(run.study for run in RUNS) == {s: len(r.runs) for s, r in RECIPES.items()}


@pytest.mark.parametrize("study", STUDIES)
def test_a_recipe_has_the_conclusions_and_readings_of_its_study(
    study: str,
) -> None:
    listed, report = STUDIES[study], RECIPES[study].report
    assert set(report) == {"selection", "conclusions", "readings"}
    assert (report["selection"], report["conclusions"]) == (
        listed["selection"],
        listed["conclusions"],
    )
    assert [reading["open"] for reading in report["readings"]] == listed["ambiguous"]
    for reading in report["readings"]:
        assert set(reading) == {"open", "taken"}
        assert reading["taken"].endswith(".")


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_a_run_has_the_report_s_figures(run: Reported) -> None:
    _, ours = run.recipe()
    assert (ours.reported, ours.reported_curve) == (run.printed, run.curve)


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_a_run_has_the_report_s_settings_and_no_others(run: Reported) -> None:
    recipe, _ = run.recipe()
    config, stated = _config(run), dict(run.stated)
    augment = frozenset(stated.pop("augment.augment", ()))
    early_stop = stated.pop("train.early_stop", False)
    prep = {key: stated.pop(f"prep.{key}", None) for key in ("dataset", "val_split")}
    weights = stated.pop("model.weights")
    assert config.model.weights in (
        (weights, "IMAGENET1K_V1") if weights == "imagenet" else (weights,)
    )
    stated["model.name"] = ModelConfig(stated["model.name"]).name  # the report's "custom"
    if stated.get("model.freeze") == "none":
        assert config.model.freeze in ((), "none")
        del stated["model.freeze"]
    assert {key: _at(config, key) for key in stated} == stated
    assert (config.train.early_stop_after > 0) == early_stop
    assert recipe.prep["dataset"] == prep["dataset"]
    if prep["val_split"] == "none":
        assert recipe.prep["val_fraction"] == 0
    else:
        assert recipe.prep["val_split"] == (prep["val_split"] or "stratified")
        assert "val_fraction" not in recipe.prep  # the default of prep: half
    assert recipe.prep.keys() <= {"dataset", "split", "val_split", "val_fraction"}
    assert recipe.prep.get("split") == ("lists" if prep["dataset"] == "caltech101" else None)
    # At a restart only the weights go back; C5's batch is a smaller one than C's.
    assert config.train.restart_clears_momentum != (run.study[0] == "B")
    assert run.study != "C5" or config.train.batch_size < 256
    _check_augmentation(config, run, augment)
    _check_nothing_else(config, run)


def _check_augmentation(config: RunConfig, run: Reported, wanted: frozenset[str]) -> None:
    """Listed augmentations are on, and all others are off."""
    augment = config.augment
    flip = {name: f"{name}_flip" in wanted for name in ("horizontal", "vertical")}
    assert augment.flip == (
        "both" if all(flip.values()) else next((name for name, on in flip.items() if on), "none")
    )
    jitter = augment.color_jitter
    assert ("color_jitter" in wanted) == all(
        (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
    )
    for name in ("rotation", "perspective", "grayscale"):
        assert (name in wanted) == (getattr(augment, name) > 0), name
    assert augment.grayscale in (0, 1), "every image becomes gray, or none"
    assert augment.corners == ("image" if augment.axis_aligned else "black")
    assert augment.crop == run.stated.get("augment.crop", "center")
    assert augment.padding == run.stated.get("augment.padding", 0)
    known = {"horizontal_flip", "vertical_flip", "color_jitter"}
    assert wanted <= known | {"rotation", "perspective", "grayscale"}


def _check_nothing_else(config: RunConfig, run: Reported) -> None:
    """A recipe has no setting that the list neither states nor leaves open."""
    stated = set(run.stated)
    allowed = {name for name, runs in OPEN.items() if any(_is_of(run, word) for word in runs)}
    assert _changed(config) - stated <= allowed
    options = {x for word, names in OPEN_OPTIONS.items() if _is_of(run, word) for x in names}
    for option in config.model.options:
        assert f"model.options.{option}" in stated or option in options, option
    freezes = {name for name in FREEZING & _changed(config) if _at(config, name) != "none"}
    if run.name != "E3.5":  # the report does not say which layers it fine-tunes
        assert freezes == {name for name in FREEZING & stated if run.stated[name] != "none"}
    if "augment.resize" not in stated:
        assert config.augment.resize == config.augment.image_size


def _is_of(run: Reported, word: str) -> bool:
    """word: a report ("A"), a study ("A1") or a run ("A1.2")."""
    return f"{run.name}.".startswith(word if len(word) == 1 else f"{word}.")


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_the_epoch_that_is_tested_is_the_report_s(run: Reported) -> None:
    recipe, _ = run.recipe()
    select, has_val = _config(run).train.select, recipe.prep.get("val_fraction") != 0
    match STUDIES[run.study]["selection"]:
        case "last epoch":
            assert select == "last" or not has_val
        case "best validation epoch":
            assert has_val
            assert select == ("loss" if run.study.startswith("B") else "accuracy")
        case "unsaid":
            assert select in (("accuracy",) if has_val else ("accuracy", "train_loss"))
        case other:
            raise AssertionError(other)


@pytest.mark.parametrize("study", RECIPES)
def test_a_recipe_names_its_study_and_its_data(study: str) -> None:
    recipe = RECIPES[study]
    assert f"Report {study[0]}" in " ".join(recipe.base["description"].split())
    assert recipe.name.split("/")[0] == recipe.prep["dataset"]
    assert prep_command(recipe).startswith(f"prep {recipe.prep['dataset']} --source DIR --out DIR")
    for number, run in enumerate(recipe.runs, start=1):
        for wanted in (number, run.name):
            assert load_runs(f"{recipe.name}:{wanted}") == (recipe, (run,))
