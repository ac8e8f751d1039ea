"""The corrected list of reported experiments, for comparison with the recipes.

In: reported_experiments.toml, whose header defines every word. Out: `STUDIES` as listed, and `RUNS`
with settings under the dotted names of recipes. An unknown word raises KeyError.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipform.train.config.recipe import Recipe, SweepRun, load_recipe, recipe_names

SOURCE = Path(__file__).with_name("reported_experiments.toml")
NUM_CLASSES = {"caltech101": 101, "cifar100": 100, "cifar10": 10, "mnist": 10}
STUDY_KEYS = {
    *("id", "report", "title", "dataset", "same_as", "base", "runs"),
    *("selection", "conclusions", "ambiguous"),
}
REPORTED_KEYS = {
    *("val_accuracy", "test_accuracy", "train_accuracy", "first_val_accuracy"),
    *("first_test_accuracy", "worst_class_accuracy", "other_classes_accuracy", "worst_half_min"),
    *("worst_half_max", "loss", "train_loss", "val_loss", "first_loss", "minutes", "seconds"),
    *("trainable_parameters", "stopped_at_epoch", "outcome"),
}
_OPTIONS_OF = {
    "conv": ("width", "final_width", "hidden", "batch_norm", "dropout"),
    "mlp_sigmoid": ("hidden",),
    "fc": ("norm", "size", "depth"),
    "cnn": ("kernel_sizes", "pool", "dilation"),
}
_SECTION = {
    "augment": ("image_size", "resize", "crop", "padding", "normalize", "augment"),
    "model": ("weights", "head", "freeze", "train_layers", "small_input"),
    "model.options": tuple(dict.fromkeys(k for keys in _OPTIONS_OF.values() for k in keys)),
    "optimizer": ("lr", "momentum", "weight_decay", "head_lr", "body_lr"),
    "schedule": ("step_size", "gamma", "milestones"),
    "train": ("epochs", "batch_size", "restart_from_best_after", "early_stop"),
    "prep": ("dataset", "val_split"),
}
_NAMES = {key: f"{section}.{key}" for section, keys in _SECTION.items() for key in keys}
_NAMES |= {key: f"{key}.name" for key in ("model", "optimizer", "schedule", "loss")}
_NAMES |= {"rotation_degrees": "augment.rotation"}


@dataclass(frozen=True)
class Reported:
    """A run of the list. stated: its settings, dotted name -> value."""

    study: str
    number: int
    stated: dict[str, Any]
    printed: dict[str, Any]
    curve: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.study}.{self.number}"

    def recipe(self) -> tuple[Recipe, SweepRun]:
        recipe = RECIPES[self.study]
        return recipe, recipe.runs[self.number - 1]


def _base(id: str) -> dict[str, Any]:
    """The settings of a study, merged over those of its base study."""
    study = STUDIES[id]
    below = _base(study["same_as"]) if "same_as" in study else {"dataset": study["dataset"]}
    return below | study["base"]


def _reported(id: str, number: int, run: dict[str, Any]) -> Reported:
    settings = _base(id) | run
    printed, curve = settings.pop("reported"), settings.pop("reported_curve", {})
    own = _OPTIONS_OF.get(settings["model"], ())
    # The base of a study may have options of its other nets and optimizers.
    left_out = {key for keys in _OPTIONS_OF.values() for key in keys} - set(own)
    if settings["optimizer"] != "sgd":
        left_out.add("momentum")
    if settings.get("early_stop"):
        left_out.add("epochs")  # "epochs is no limit then"
    stated = {_NAMES[key]: value for key, value in settings.items() if key not in left_out}
    return Reported(id, number, stated, printed, curve)


_LIST = tomllib.loads(SOURCE.read_text(encoding="utf-8"))
STUDIES: dict[str, dict[str, Any]] = {study["id"]: study for study in _LIST["study"]}
RUNS = [
    _reported(id, number, run)
    for id, study in STUDIES.items()
    for number, run in enumerate(study["runs"], 1)
]
RECIPES = {recipe.study: recipe for recipe in map(load_recipe, recipe_names()) if recipe.study}
