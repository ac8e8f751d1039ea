"""The reports' runs as ../shared/experiments.toml has them, in this project's names.

In: that file. Out: `Reported` runs: which settings, by their dotted names, a report states, and what it printed.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).resolve().parents[3] / "shared" / "experiments.toml"
_OPTIONS = (
    "width",
    "final_width",
    "hidden",
    "batch_norm",
    "dropout",
    "norm",
    "size",
    "depth",
    "kernel_sizes",
    "pool",
    "dilation",
)
_SECTION = {
    "augment": ("image_size", "resize", "crop", "padding", "normalize"),
    "model": ("weights", "head", "freeze", "train_layers", "small_input"),
    "model.options": _OPTIONS,
    "optimizer": ("lr", "momentum", "weight_decay", "head_lr", "body_lr"),
    "schedule": ("step_size", "gamma", "milestones"),
    "train": ("epochs", "batch_size", "restart_from_best_after"),
}
_NAMES = {key: f"{section}.{key}" for section, keys in _SECTION.items() for key in keys}
_NAMES |= {key: f"{key}.name" for key in ("model", "optimizer", "schedule", "loss")}
_NAMES |= {"rotation_degrees": "augment.rotation"}
_READ_BY = {"conv": _OPTIONS[:5], "mlp_sigmoid": ("hidden",), "fc": _OPTIONS[5:8], "cnn": _OPTIONS[8:]}


@dataclass(frozen=True)
class Reported:
    """stated: dotted names to values. augment: what is added to resize and crop. prep: what the data must be."""

    study: str
    number: int
    stated: dict[str, Any]
    augment: frozenset[str]
    early_stop: bool
    prep: dict[str, str]
    printed: dict[str, Any]


def studies() -> dict[str, list[Reported]]:
    """Every study's runs in order; empty where the file is not there."""
    if not SOURCE.is_file():
        return {}
    source = {study["id"]: study for study in tomllib.loads(SOURCE.read_text(encoding="utf-8"))["study"]}
    return {id: [_run(source, id, i, run) for i, run in enumerate(study["runs"], 1)] for id, study in source.items()}


def _base(source: dict[str, Any], id: str) -> dict[str, Any]:
    """A study's settings on top of those of the study that it builds on."""
    study = source[id]
    below = _base(source, study["same_as"]) if "same_as" in study else {"dataset": study["dataset"]}
    return below | study["base"]


def _run(source: dict[str, Any], id: str, number: int, run: dict[str, Any]) -> Reported:
    settings = _base(source, id) | run
    printed = settings.pop("reported")
    prep = {key: settings.pop(key) for key in ("dataset", "val_split") if key in settings}
    augment = frozenset(settings.pop("augment", ()))
    early_stop = settings.pop("early_stop", False)
    own = _READ_BY.get(settings["model"], ())
    unread = {key for key in _OPTIONS if key not in own}  # a study's base may hold options of its other nets
    if settings["optimizer"] != "sgd":
        unread |= {"momentum"}
    if early_stop:
        unread |= {"epochs"}  # the report's run went beyond its own number
    stated = {_NAMES[key]: value for key, value in settings.items() if key not in unread}
    return Reported(id, number, stated, augment, early_stop, prep, printed)
