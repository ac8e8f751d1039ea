"""Recipes: TOML files with the settings of a run, or of the runs of a sweep.

In: the name or path of a recipe (NAME:RUN is one run of a sweep), or the config.toml of a run
folder. Out: a `Recipe`; its settings are not checked yet.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slipform.pipelines.errors import ConfigError, nearest_path, unknown
from slipform.pipelines.files import open_regular
from slipform.train.config.layers import (
    Settings,
    current,
    merged,
    nested,
    without_other_variants,
)
from slipform.train.config.run_config import RunConfig, check

__all__ = [
    "RECIPES",
    "Recipe",
    "SweepRun",
    "load_one",
    "load_recipe",
    "load_runs",
    "parse_config",
    "read_config",
    "recipe_names",
    "run_recipe",
]

RECIPES = Path(__file__).parents[1] / "recipes"
_RUN_FILE = "config.toml"  # in a run folder


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep: an entry of [[runs]].

    Attributes:
        name: The name of the run and of its folder.
        overrides: The settings that differ from the recipe's.
        reported: Results that a report gives for the run, for the table of the sweep.
        reported_curve: The reported results of every epoch: name -> one number for each epoch.
    """

    name: str
    overrides: Settings
    reported: Settings
    reported_curve: Settings = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """The content of a recipe file.

    Attributes:
        name: Its name, or its path.
        base: Its settings; `resolve` checks them.
        runs: The runs of a sweep; empty for a recipe of one run.
        study: The name of the experiment in the report that it reproduces.
        prep: The dataset of the recipe, and the options of prep that it needs:
            {"dataset": "mnist"}.
        report: About the report: "selection", the epoch of its numbers; "conclusions", its
            conclusions; "readings", what it does not say and what the recipe assumes.

    Example:
        >>> import slipform as sf
        >>> recipe = sf.load_recipe("mnist/convolutional")
        >>> recipe.prep["dataset"], len(recipe.runs) > 1
        ('mnist', True)
    """

    name: str
    base: Settings
    runs: tuple[SweepRun, ...] = ()
    study: str = ""
    prep: Settings = field(default_factory=dict)
    report: Settings = field(default_factory=dict)


def recipe_names() -> list[str]:
    """The names of all recipes of Slipform, sorted: ["caltech101/alexnet-asgd", ...]."""
    return sorted(
        path.relative_to(RECIPES).with_suffix("").as_posix() for path in RECIPES.rglob("*.toml")
    )


def load_recipe(name_or_path: str | Path) -> Recipe:
    """Read a recipe.

    The config.toml of a run folder is also a recipe: it starts the same run again. Version 0.1
    wrote settings into it that the optimizer, schedule or loss does not read; these are ignored.

    Args:
        name_or_path: A name of `recipe_names`, or the path of a file that ends in ".toml".

    Raises:
        ConfigError: There is no such recipe, or it is no valid TOML.

    Example:
        >>> import slipform as sf
        >>> sf.load_recipe("shapes/demo").base["model"]
        {'name': 'tiny'}
    """
    text = str(name_or_path)
    path = Path(text) if text.endswith(".toml") else RECIPES / f"{text}.toml"
    if not path.is_file():
        if text.endswith(".toml") and not path.exists():
            raise ConfigError(f"there is no recipe file {path}.{nearest_path(path)}")
        if not text.endswith(".toml"):
            raise unknown("recipe", text, recipe_names())
    base = _read(path)
    if path.name == _RUN_FILE:
        base = _of_old_version(base)
    runs = base.pop("runs", [])
    if not isinstance(runs, list) or not all(isinstance(run, dict) for run in runs):
        raise ConfigError(
            f'{path}: "runs" must be a list of tables: write [[runs]] above each of them'
        )
    parsed = tuple(_sweep_run(path, number, run) for number, run in enumerate(runs, start=1))
    names = [run.name for run in parsed]
    for name in names:  # names of folders
        if not re.fullmatch(r"[\w.+-]*[\w+-][\w.+-]*", name) or names.count(name) > 1:
            raise ConfigError(
                f'{path}: the name of a run is "{name}". A name must be unique. It may contain'
                ' letters, digits, "_", "+", "-" and ".", and not only dots.'
            )
    study = str(base.pop("study", ""))
    prep, report = (_table(path, name, base.pop(name, {})) for name in ("prep", "report"))
    return Recipe(text, base, parsed, study, prep, report)


def load_runs(text: str) -> tuple[Recipe, tuple[SweepRun, ...]]:
    """Read a recipe, and select runs of it.

    Args:
        text: A recipe as for `load_recipe`, or NAME:RUN,RUN with names of runs, or with their
            numbers, counted from 1.

    Returns:
        The recipe, and the selected runs; none where `text` names no runs.

    Raises:
        ConfigError: There is no such recipe or run.
    """
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
            names = [run.name for run in recipe.runs]
            raise unknown("run", word, names, where=f"in the recipe {name}")
    return recipe, tuple(runs[word] for word in wanted.split(","))


def load_one(text: str) -> tuple[Recipe, SweepRun | None]:
    """Read a recipe of one run, or one run of a sweep.

    Args:
        text: A recipe as for `load_runs`.

    Returns:
        The recipe, and its run; None if the recipe is no sweep.

    Raises:
        ConfigError: There is no such recipe or run, or `text` names several runs.
    """
    recipe, runs = load_runs(text)
    if recipe.runs and len(runs) != 1:
        names = ", ".join(run.name for run in recipe.runs)
        raise ConfigError(
            f"{recipe.name} is a sweep: give one of its runs as --recipe {recipe.name}:RUN, or all"
            f" of them as train --all. Runs: {names}."
        )
    return recipe, runs[0] if runs else None


def run_recipe(config_file: Path) -> Recipe:
    """Read the config.toml of a run folder as a recipe, to resume the run with other settings.

    Args:
        config_file: The path of config.toml.

    Raises:
        ConfigError: There is no such file, or it is empty or no valid TOML.
    """
    recipe = load_recipe(config_file)
    if not recipe.base:
        raise ConfigError(f"{config_file} is empty: the run folder is damaged.")
    return recipe


def read_config(config_file: Path) -> RunConfig:
    """Read the configuration in the config.toml of a run folder.

    Args:
        config_file: The path of config.toml.

    Raises:
        ConfigError: There is no such file, it is no valid TOML, or a setting is wrong.
    """
    return check(run_recipe(config_file).base)


def parse_config(text: str, source: str) -> RunConfig:
    """Read the configuration in a text of `to_toml`, of this version or an earlier one.

    Args:
        text: The TOML.
        source: The name of the text in errors.

    Raises:
        ConfigError: It is no valid TOML, or a setting is wrong.
    """
    return check(_of_old_version(_parse_toml(text, source)))


def _of_old_version(settings: Settings) -> Settings:
    """The settings in a config.toml of any version, for this version.

    Version 0.1 wrote settings that other optimizers, schedules and losses read, and always decoded
    images in full. Before data.fold_rule, folds were divided by the rarest label.
    """
    settings = without_other_variants(current(settings))
    data = settings.get("data")
    if not isinstance(data, dict):
        return settings
    older = {"decode_scale": "off", "fold_rule": "rarest_label"}
    return {**settings, "data": older | data}


def _parse_toml(text: str, source: str) -> Settings:
    """Parse TOML into nested dictionaries.

    Args:
        text: The TOML.
        source: The name of the text in errors.

    Raises:
        ConfigError: It is no valid TOML, or it is nested too deeply.
    """
    try:
        return tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError, or a number with thousands of digits
        raise ConfigError(f"{source} is no valid TOML: {error}") from error
    except RecursionError:
        raise ConfigError(f"{source} is no valid TOML: it is nested too deeply") from None


def _read(path: Path) -> Settings:
    try:
        with open_regular(path, ConfigError) as file:
            text = file.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is no valid TOML: {error}") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from error
    return _parse_toml(text, str(path))


def _sweep_run(path: Path, number: int, run: Settings) -> SweepRun:
    """Parse an entry of [[runs]]. Keys may be strings with dots ("optimizer.lr"), or tables."""
    reported = _table(path, "reported", run.pop("reported", {}))
    curve = _table(path, "reported_curve", run.pop("reported_curve", {}))
    name = str(run.pop("name", number))
    overrides: Settings = {}
    for key, value in run.items():
        overrides = merged(overrides, nested(key, value))
    return SweepRun(name, overrides, reported, curve)


def _table(path: Path, name: str, value: Any) -> Settings:
    if not isinstance(value, dict):
        raise ConfigError(f'{path}: "{name}" must be a table')
    return value
