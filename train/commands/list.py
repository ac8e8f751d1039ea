"""The command `list`: the names of recipes, nets, settings and own augmentations.

In: a command line. Out: a line for each of them.
"""

from __future__ import annotations

import inspect

import click

from slipform.pipelines.command import Command
from slipform.pipelines.errors import ConfigError, printable

__all__ = ["list_names"]

_KINDS = ("recipes", "nets", "settings", "augmentations")
_MAX_WIDTH = 44  # of the first column; a longer name shifts the rest of its line


@click.command("list", cls=Command)
@click.argument("kind", type=click.Choice(_KINDS))
@click.argument("word", required=False)
def list_names(kind: str, word: str | None) -> None:
    """List recipes, nets, settings or own augmentations, each with a description.

    WORD: only lines with this word.

    \b
    Examples:
      slipform list recipes mnist     names for train --recipe
      slipform list nets resnet       names for train --set model.name=NAME
      slipform list nets timm/        those of timm, more than a thousand
      slipform list settings lr       names for train --set NAME=VALUE
      slipform list augmentations     names for train --set augment.own.NAME=true
    """
    lines = {
        "recipes": _recipes,
        "nets": lambda: _nets(word),
        "settings": _settings,
        "augmentations": _augmentations,
    }[kind]()
    found = [line for line in lines if (word or "").lower() in " ".join(line).lower()]
    if not found and kind == "augmentations" and not lines:
        raise ConfigError("no own augmentation is registered; pipelines/plan/adding.md has one")
    if not found:
        raise ConfigError(f'no line of {kind} has "{word}". All: slipform list {kind}')
    width = min(_MAX_WIDTH, max(len(name) for name, _ in found))
    for name, text in found:
        click.echo(f"{name:<{width}}  {printable(text)}".rstrip())


def _recipes() -> list[tuple[str, str]]:
    from slipform.train.config.recipe import load_recipe, recipe_names

    found = []
    for name in recipe_names():
        recipe = load_recipe(name)
        runs = f" (sweep, runs: {len(recipe.runs)})" if recipe.runs else ""
        found.append((name, _first_sentence(str(recipe.base.get("description", ""))) + runs))
    return found


def _nets(word: str | None) -> list[tuple[str, str]]:
    """All nets; those of timm only where a word selects from them."""
    from slipform.models import registry, timm_nets

    names = registry.names()
    more = [*timm_nets.names()] if word else []
    found = [(name, _first_sentence(registry.describe(name))) for name in [*names, *more]]
    if not word and timm_nets.is_installed():
        found.append(("timm/NAME", "any net of timm: slipform list nets timm/"))
    return found


def _augmentations() -> list[tuple[str, str]]:
    """The registered augmentations. Others are settings: `slipform list settings augment.`"""
    from slipform.pipelines.plan import registry

    functions = {name: registry.find(name).function for name in registry.names()}
    return [(name, _first_sentence(inspect.getdoc(one) or "")) for name, one in functions.items()]


def _settings() -> list[tuple[str, str]]:
    from slipform.train.config.settings import settings

    found = settings()
    return [(f"{one.name} = {one.default}" if one.default else one.name, str(one)) for one in found]


def _first_sentence(text: str) -> str:
    return " ".join(text.split()).partition(". ")[0].removesuffix(".")
