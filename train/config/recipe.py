"""Recipes: TOML files with the settings of a run, or of a sweep's runs.

In: a recipe's name or path (NAME:RUN is one run of a sweep), or a run folder's config.toml. Out: a
`Recipe`, its settings not checked yet.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slipform.pipelines.errors import ConfigError, unknown
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
    "Recipe",
    "SweepRun",
    "load_recipe",
    "load_runs",
    "parse_config",
    "read_config",
    "recipe_names",
    "run_recipe",
]

RECIPES = Path(__file__).parents[1] / "recipes"
RUN_FILE = "config.toml"  # in a run folder


@dataclass(frozen=True)
class SweepRun:
    """One [[runs]] entry.

    Args:
        name: The name of its folder.
        overrides: The settings that it changes of the base.
        reported: What was reported for it elsewhere, for the sweep's table.
        reported_curve: The same for every epoch: name -> one number an epoch.
    """

    name: str
    overrides: Settings
    reported: Settings
    reported_curve: Settings = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """A TOML recipe.

    Args:
        name: Its name, or its path.
        base: Its settings, unchecked until `resolve`.
        runs: Empty where it is no sweep.
        study: What a report calls it.
        prep: The dataset that it is for, and options of prep that matter: {"dataset": "mnist"}.
        report: Of a study: "selection", the epoch that its figures are of; "conclusions", what the
            report concludes; "readings", what it leaves open and what is taken here.

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
    """All recipes that come with the program: ["caltech101/alexnet-scratch", ...]."""
    return sorted(
        path.relative_to(RECIPES).with_suffix("").as_posix() for path in RECIPES.rglob("*.toml")
    )


def load_recipe(name_or_path: str | Path) -> Recipe:
    """Read a recipe.

    A run folder's config.toml is a recipe too: it starts the same run again. Version 0.1 wrote
    settings into it that the optimizer, schedule or loss does not read; these are left out.

    Args:
        name_or_path: A name of `recipe_names`, or the path of a file that ends in ".toml".

    Raises:
        ConfigError: There is none, or it is no valid TOML.

    Example:
        >>> import slipform as sf
        >>> sf.load_recipe("shapes/demo").base["model"]
        {'name': 'tiny'}
    """
    text = str(name_or_path)
    path = Path(text) if text.endswith(".toml") else RECIPES / f"{text}.toml"
    if not path.is_file():
        if text.endswith(".toml") and not path.exists():
            raise ConfigError(f"there is no recipe file {path}")
        if not text.endswith(".toml"):
            raise unknown("recipe", text, recipe_names())
    base = _read(path)
    if path.name == RUN_FILE:
        base = without_other_variants(current(base))
    runs = base.pop("runs", [])
    if not isinstance(runs, list) or not all(isinstance(run, dict) for run in runs):
        raise ConfigError(f'{path}: "runs" is a list of tables: write [[runs]] before each')
    parsed = tuple(_sweep_run(path, number, run) for number, run in enumerate(runs, start=1))
    names = [run.name for run in parsed]
    for name in names:  # they become folders
        if not re.fullmatch(r"[\w.+-]*[\w+-][\w.+-]*", name) or names.count(name) > 1:
            raise ConfigError(
                f'{path}: a run is named "{name}": names are of letters, digits, "-", "." and'
                ' unique, and not only of "."'
            )
    study = str(base.pop("study", ""))
    prep, report = (_table(path, name, base.pop(name, {})) for name in ("prep", "report"))
    return Recipe(text, base, parsed, study, prep, report)


def load_runs(text: str) -> tuple[Recipe, tuple[SweepRun, ...]]:
    """Read a recipe, and pick runs of it.

    Args:
        text: As for `load_recipe`, or NAME:RUN,RUN with names or numbers of runs, counted from 1.

    Returns:
        The recipe, and the runs named; without a colon none.

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
            raise unknown(f"run of {name}", word, [run.name for run in recipe.runs])
    return recipe, tuple(runs[word] for word in wanted.split(","))


def run_recipe(config_file: Path) -> Recipe:
    """A run folder's config.toml as a recipe, to resume the run with other settings.

    Raises:
        ConfigError: There is no such file, or it is empty or no valid TOML.
    """
    recipe = load_recipe(config_file)
    if not recipe.base:
        raise ConfigError(f"{config_file} is empty: the run folder is damaged")
    return recipe


def read_config(config_file: Path) -> RunConfig:
    """The configuration in a run folder's config.toml.

    Raises:
        ConfigError: There is no such file, it is no valid TOML, or a setting does not fit.
    """
    return check(run_recipe(config_file).base)


def parse_config(text: str, source: str) -> RunConfig:
    """The configuration in a text that `to_toml` wrote, in this version or an earlier one.

    Args:
        text: The TOML.
        source: What the error calls it.

    Raises:
        ConfigError: It is no valid TOML, or a setting does not fit.
    """
    return check(without_other_variants(current(parse_toml(text, source))))


def parse_toml(text: str, source: str) -> Settings:
    """TOML as nested dictionaries.

    Args:
        text: The TOML.
        source: What the error calls it.

    Raises:
        ConfigError: It is no valid TOML, or nested too deeply.
    """
    try:
        return tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError, or a number of thousands of digits
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
    return parse_toml(text, str(path))


def _sweep_run(path: Path, number: int, run: Settings) -> SweepRun:
    """Keys of a run may be dotted strings ("optimizer.lr" = 0.1), dotted keys or tables."""
    reported = _table(path, "reported", run.pop("reported", {}))
    curve = _table(path, "reported_curve", run.pop("reported_curve", {}))
    name = str(run.pop("name", number))
    overrides: Settings = {}
    for key, value in run.items():
        overrides = merged(overrides, nested(key, value))
    return SweepRun(name, overrides, reported, curve)


def _table(path: Path, name: str, value: Any) -> Settings:
    if not isinstance(value, dict):
        raise ConfigError(f'{path}: "{name}" is a table')
    return value
