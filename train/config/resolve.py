"""From a recipe and `--set a.b=c` to a checked `RunConfig`, and back to TOML.

In: the name or path of a TOML recipe (NAME:RUN is one run of a sweep), settings, the dataset's
manifest. Out: a frozen `RunConfig`. Later wins: defaults of the classes, defaults for the dataset
(only without a recipe), recipe, the run of a sweep, settings. A mistake raises ConfigError with the
key's path and the nearest right one. Does not import torch: `--help` is quick.
"""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from slipform.pipelines.errors import ConfigError, nearest, unknown
from slipform.pipelines.manifest import Manifest
from slipform.train.config.sections import READ_BY, RunConfig, ignored

__all__ = [
    "Recipe",
    "RunConfig",
    "SweepRun",
    "ignored",
    "load_recipe",
    "load_runs",
    "read_config",
    "recipe_names",
    "resolve",
    "to_toml",
]

RECIPES = Path(__file__).parents[1] / "recipes"
Settings = dict[str, Any]


@dataclass(frozen=True)
class SweepRun:
    """One [[runs]] entry: what it changes of the base, and what was reported for it."""

    name: str
    overrides: Settings
    reported: Settings


@dataclass(frozen=True)
class Recipe:
    """A TOML recipe. `base` as written there, unchecked until `resolve`; `runs` is empty where it
    is no sweep."""

    name: str
    base: Settings
    runs: tuple[SweepRun, ...] = ()
    study: str = ""  # what a report calls it
    prep: Settings = field(
        default_factory=dict
    )  # the dataset it is for, and options of prep that matter: {"dataset": "mnist"}


def recipe_names() -> list[str]:
    """All recipes that come with the program: ["caltech101/alexnet-scratch", ...]."""
    return sorted(
        path.relative_to(RECIPES).with_suffix("").as_posix() for path in RECIPES.rglob("*.toml")
    )


def load_recipe(name_or_path: str | Path) -> Recipe:
    """The recipe of that name, or in that file. Raises ConfigError where there is none or its TOML
    is broken."""
    text = str(name_or_path)
    path = Path(text) if text.endswith(".toml") else RECIPES / f"{text}.toml"
    if not path.is_file():
        if text.endswith(".toml"):
            raise ConfigError(f"there is no recipe file {path}")
        raise unknown("recipe", text, recipe_names())
    try:
        base = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no valid TOML: {error}") from error
    runs = base.pop("runs", [])
    if not isinstance(runs, list) or not all(isinstance(run, dict) for run in runs):
        raise ConfigError(f'{path}: "runs" is a list of tables: write [[runs]] before each')
    parsed = tuple(_sweep_run(number, run) for number, run in enumerate(runs, start=1))
    for run in parsed:  # they become folders
        if (
            not re.fullmatch(r"[\w.+-]+", run.name)
            or [other.name for other in parsed].count(run.name) > 1
        ):
            raise ConfigError(
                f'{path}: a run is named "{run.name}": names are of letters, digits, "-", "." and'
                " unique"
            )
    return Recipe(text, base, parsed, base.pop("study", ""), base.pop("prep", {}))


def load_runs(text: str) -> tuple[Recipe, tuple[SweepRun, ...]]:
    """A recipe, and the runs of it that NAME:RUN,RUN means: by their names or numbers, counted from
    1. Without a colon none."""
    name, colon, wanted = text.rpartition(":")
    if not colon or "/" in wanted or wanted.endswith(".toml"):
        return load_recipe(text), ()
    recipe = load_recipe(name)
    runs = {
        key: run
        for number, run in enumerate(recipe.runs, start=1)
        for key in (run.name, str(number))
    }
    for word in wanted.split(","):
        if word not in runs:
            raise unknown(f"run of {name}", word, [run.name for run in recipe.runs])
    return recipe, tuple(runs[word] for word in wanted.split(","))


def _sweep_run(number: int, run: Settings) -> SweepRun:
    """Keys of a run may be dotted strings ("optimizer.lr" = 0.1), dotted keys or tables."""
    reported = run.pop("reported", {})
    name = str(run.pop("name", number))
    overrides: Settings = {}
    for key, value in run.items():
        overrides = _merged(overrides, _nested(key, value))
    return SweepRun(name, overrides, reported)


def resolve(
    recipe: Recipe | None = None,
    sets: typing.Iterable[str] = (),
    manifest: Manifest | None = None,
    run: SweepRun | None = None,
) -> RunConfig:
    """The checked configuration of a run. Without a recipe, the defaults fit the manifest's
    dataset."""
    settings = recipe.base if recipe else dataset_defaults(manifest) if manifest else {}
    if run:
        settings = _laid_over(settings, run.overrides)
    chosen: Settings = {}
    for text in sets:
        chosen = _merged(chosen, _parse_set(text))
    return check(_laid_over(settings, chosen))


def check(settings: Settings) -> RunConfig:
    """`settings` (nested, as TOML gives them) as a RunConfig. Raises ConfigError that names the
    first wrong key."""
    try:
        # By way of JSON, since pydantic's strict mode takes a list for a tuple there and only
        # there.
        return RunConfig.model_validate_json(
            json.dumps(_renamed(settings), default=str), strict=True
        )
    except ValidationError as error:
        raise ConfigError(_explain(error)) from error


def read_config(path: Path) -> RunConfig:
    """A run folder's config.toml."""
    return resolve(load_recipe(path))


def dataset_defaults(manifest: Manifest) -> Settings:
    """Settings that train reasonably on any dataset: the images' size decides.

    Up to 48 px (MNIST, CIFAR): the size itself, a random crop with padding 4. Up to 128 px: 64.
    Above: 224, as torchvision's nets expect. A quarter below the top learning rate of the usual SGD
    recipes, so that small batches do not diverge.
    """
    split = manifest.split("train")
    largest = max(split.max_height, split.max_width)
    if largest <= 48:
        gray_digits = manifest.dataset == "mnist"
        augment = {
            "image_size": largest,
            "resize": largest,
            "crop": "random",
            "padding": 2 if gray_digits else 4,
        }
        augment["flip"] = "none" if gray_digits else "horizontal"
        model: Settings = (
            {"name": "cnn"} if gray_digits else {"name": "resnet18", "small_input": True}
        )
    elif largest <= 128:
        augment = {
            "image_size": 64,
            "resize": 72,
            "crop": "random_resized",
            "scale": [0.35, 1.0],
            "flip": "horizontal",
        }
        model = {"name": "resnet18", "small_input": True}
    else:
        augment = {
            "image_size": 224,
            "resize": 256,
            "crop": "random_resized",
            "scale": [0.35, 1.0],
            "flip": "horizontal",
        }
        model = {"name": "resnet18"}
    batch_size = min(
        128, max(1, split.num_samples // 8)
    )  # eight steps in an epoch, even of a tiny dataset
    return {
        "description": f"defaults for {manifest.dataset}",
        "augment": {**augment, "normalize": "dataset"},
        "model": model,
        "optimizer": {
            "name": "sgd",
            "lr": 0.05,
            "momentum": 0.9,
            "nesterov": True,
            "weight_decay": 5e-4,
        },
        "schedule": {"name": "cosine", "warmup_epochs": 1.0},
        "loss": {"label_smoothing": 0.1},
        "train": {"epochs": 20, "batch_size": batch_size},
    }


def _nested(dotted: str, value: Any) -> Settings:
    for key in reversed(dotted.split(".")):
        value = {key: value}
    return value


def _merged(below: Settings, above: Settings) -> Settings:
    """`above` laid over `below`, table by table; neither is changed."""
    merged = dict(below)
    for key, value in above.items():
        both_tables = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both_tables else value
    return merged


def _renamed(settings: Settings) -> Settings:
    """Settings under today's names: recipes and run folders of before say data.loader."""
    data = settings.get("data")
    if not isinstance(data, dict) or "loader" not in data or "executor" in data:
        return settings
    return {**settings, "data": {"executor" if k == "loader" else k: v for k, v in data.items()}}


def _laid_over(below: Settings, above: Settings) -> Settings:
    """As `_merged`, but where `above` names another net, optimizer, schedule or loss, what only the
    old one reads goes."""
    below, above = _renamed(below), _renamed(above)
    old, new = below.get("model"), above.get("model")
    if (
        isinstance(old, dict)
        and isinstance(new, dict)
        and new.get("name", old.get("name")) != old.get("name")
    ):
        below = {
            **below,
            "model": {
                key: value for key, value in old.items() if key not in ("options", "small_input")
            },
        }
    for section in ("optimizer", "schedule", "loss"):
        old, new = below.get(section), above.get(section)
        read = (
            READ_BY.get((section, str(new.get("name"))))
            if isinstance(old, dict) and isinstance(new, dict)
            else None
        )
        if read is not None:
            others = {
                key for (part, _), keys in READ_BY.items() if part == section for key in keys - read
            }
            below = {
                **below,
                section: {key: value for key, value in below[section].items() if key not in others},
            }
    return _merged(below, above)


def _parse_set(text: str) -> Settings:
    key, sign, value = text.partition("=")
    if not sign or not all(re.fullmatch(r"[\w-]+", part) for part in key.strip().split(".")):
        raise ConfigError(f"--set {text}: give SECTION.KEY=VALUE, for example --set train.epochs=1")
    try:
        parsed = tomllib.loads(f"value = {value.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()  # a bare word: --set model.name=resnet18
    return _nested(key.strip(), parsed)


def _explain(error: ValidationError) -> str:
    """The first complaint in one line: where, what was given, what is allowed."""
    first = error.errors()[0]
    path = _field_path(first["loc"])
    choices = [
        other["msg"] for other in error.errors() if _field_path(other["loc"]) == path
    ]  # more than one for a union
    own = first.get("ctx", {}).get("error")
    if isinstance(own, ConfigError):
        return own.message
    where = ".".join(path)
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        owner = _owner(path[:-1])
        names = _fields(owner) if owner else {}
        section = f"section [{'.'.join(path[:-1])}]" if path[:-1] else "the top of a recipe"
        elsewhere = [
            f"{part}.{path[-1]}"
            for part, kind in _fields(RunConfig).items()
            if path[-1] in _fields(kind)
        ]
        hint = nearest(path[-1], names) or (f' Did you mean "{elsewhere[0]}"?' if elsewhere else "")
        return f'unknown setting "{where}".{hint} {section} has: {", ".join(names)}.'
    given = first["input"]
    if first["type"] == "literal_error":
        allowed = re.findall(r"'([^']*)'", first["ctx"]["expected"])
        return (
            f"{where} = {given!r}: give {first['ctx']['expected']}.{nearest(str(given), allowed)}"
        )
    return (
        f"{where} = {given!r}: {', or '.join(choice[0].lower() + choice[1:] for choice in choices)}"
    )


def _field_path(loc: tuple[int | str, ...]) -> list[str]:
    """Where an error lies, in names of settings: without list positions and pydantic's names for
    parts of a union."""
    path: list[str] = []
    for part in loc:
        if isinstance(part, str) and _fields(_owner(path)):
            path.append(part)
    return path


def _owner(path: list[str]) -> Any:
    """The class whose field the path names: ["augment", "color_jitter"] -> ColorJitter; None where
    it is no class."""
    kind: Any = RunConfig
    for name in path:
        kind = _fields(kind).get(name)
    return kind


def _fields(kind: Any) -> dict[str, Any]:
    """Field name -> its class, for a pydantic model or a dataclass; empty for anything else."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {name: field.annotation for name, field in kind.model_fields.items()}
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return dict(typing.get_type_hints(kind))
    return {}


def to_toml(config: RunConfig) -> str:
    """TOML that `read_config` turns into an equal RunConfig. Settings of None are left out: TOML
    has no null."""
    data = config.model_dump()
    lines = [
        f"{key} = {_toml_value(value)}"
        for key, value in data.items()
        if not isinstance(value, dict)
    ]
    for section, values in data.items():
        if isinstance(values, dict):
            lines += ["", f"[{section}]"]
            lines += [
                f"{key} = {_toml_value(value)}"
                for key, value in values.items()
                if value is not None
            ]
    return "\n".join(lines) + "\n"


def _toml_value(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case int() | float():
            return repr(value)
        case list() | tuple():
            return f"[{', '.join(map(_toml_value, value))}]"
        case dict():
            pairs = (f"{_toml_value(str(key))} = {_toml_value(v)}" for key, v in value.items())
            return f"{{ {', '.join(pairs)} }}" if value else "{}"
    raise TypeError(
        f"{value!r} ({type(value).__name__}) has no TOML form"
    )  # pragma: no cover - no such field
