"""Own augmentations by name: `register_augmentation`, and the functions that [augment.own] names.

In: functions that change a Plan; the table [augment.own]. Out: the functions, with their options.
`own_plan.py` calls them. The functions are in files of the folder `own`, or in a user's program.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipform.pipelines.errors import ConfigError, nearest
from slipform.pipelines.options import converted, options_of
from slipform.pipelines.plan import own
from slipform.pipelines.plan.checks import is_number
from slipform.pipelines.toml_text import shown

if TYPE_CHECKING:
    from slipform.pipelines.plan.plan import Plan

__all__ = [
    "REGISTERED",
    "OwnAugmentation",
    "bound",
    "checked_table",
    "find",
    "names",
    "register_augmentation",
    "warps",
]

_GIVEN = ("plan", "uniforms")


@dataclass(frozen=True)
class OwnAugmentation:
    """A registered function.

    Attributes:
        function: Called as function(plan=..., uniforms=..., **options). Returns a Plan.
        options: The name and type of each option.
        warps: Whether its geometry is more than a box.
    """

    function: Callable[..., Plan]
    options: Mapping[str, Any]
    warps: bool


REGISTERED: dict[str, OwnAugmentation] = {}


def register_augmentation(function: Any = None, *, warps: bool = False) -> Any:
    """Register a function that changes Plans, under the function's name. Use it as a decorator.

    With the setting `augment.own = { NAME = { OPTION = VALUE } }` it changes the Plans of training:
    after crop, flip, warp, colors and erasing, before a policy. Several ones follow each other by
    their names. A row of the result may depend on the same row of the arguments and on the options
    alone: what the net sees is then a pure function of (seed, epoch, sample).

    Args:
        function: A function `(plan: Plan, uniforms, **options) -> Plan`. `uniforms` is float64
            [N, 16], random numbers in the open interval (0, 1). Those of a sample depend on the
            seed, the epoch, the sample and the name of the function. It may change geometry, color,
            clip and erase of the Plan, and blur where augment.blur is on; the arrays are its own.
            Its other arguments are options. Their values are checked against their annotations.
        warps: Whether it rotates, shears or distorts. All images are then rendered as with
            `rotation`. False: its geometry is a box, perhaps mirrored.

    Returns:
        The function itself. Without a function: a decorator.

    Raises:
        ConfigError: The function has no parameter plan or uniforms, its annotations cannot be
            evaluated, or another module has registered an augmentation of that name.

    Example:
        ```python
        from dataclasses import replace

        import slipform as sf

        @sf.register_augmentation
        def darker(plan, uniforms, *, probability: float = 0.5, share: float = 0.5):
            color = plan.color.copy()
            color[uniforms[:, 0] < probability, :, :3] *= share
            return replace(plan, color=color)

        augment = sf.Augmentation(image_size=64, own={"darker": {"share": 0.8}})
        ```
    """
    if function is None:
        return partial(register_augmentation, warps=warps)
    name = function.__name__
    if not name.isidentifier():
        raise ConfigError(f'the function "{name}" has no name for augment.own: define it with def')
    options = options_of(function, _GIVEN, f'the augmentation "{name}"')
    before = REGISTERED.get(name)
    if before is not None and before.function.__module__ != function.__module__:
        raise ConfigError(
            f'{before.function.__module__} has registered an augmentation "{name}" already: use'
            " another name"
        )
    REGISTERED[name] = OwnAugmentation(function, options, warps)
    _bound.cache_clear()
    return function


def names() -> list[str]:
    """The names of all own augmentations, sorted. Imports each file of the folder `own`."""
    for module in pkgutil.iter_modules(own.__path__, f"{own.__name__}."):
        importlib.import_module(module.name)
    return sorted(REGISTERED)


def find(name: str) -> OwnAugmentation:
    """The own augmentation of a name.

    Args:
        name: A key of [augment.own].

    Raises:
        ConfigError: There is none.
    """
    if name not in REGISTERED and name not in names():
        known = f" Registered: {', '.join(REGISTERED)}." if REGISTERED else ""
        raise ConfigError(
            f'augment.own.{name}: no augmentation "{name}" is registered.'
            f"{nearest(name, REGISTERED)}{known} Put the file that registers it into"
            f" {Path(own.__path__[0])}, or call sf.register_augmentation before training"
        )
    return REGISTERED[name]


def warps(table: Mapping[str, Any]) -> bool:
    """Whether any of some own augmentations warps.

    Args:
        table: The setting `Augmentation.own`.

    Raises:
        ConfigError: One of them is not registered.
    """
    return any(find(name).warps for name in table)


def bound(table: Mapping[str, Any]) -> tuple[tuple[str, Callable[..., Plan]], ...]:
    """The functions of own augmentations with their options, in the order of the names.

    Args:
        table: The setting `Augmentation.own`.

    Returns:
        Name and function for each, to be called as function(plan=..., uniforms=...).

    Raises:
        ConfigError: One of them is not registered, or an option is wrong or missing.
    """
    return _bound(json.dumps(table))


@lru_cache(maxsize=16)
def _bound(text: str) -> tuple[tuple[str, Callable[..., Plan]], ...]:
    found = []
    for name, values in json.loads(text).items():
        one = find(name)
        options = converted(values, one.options, name, f"augment.own.{name}")
        try:
            inspect.signature(one.function).bind(plan=None, uniforms=None, **options)
        except TypeError as error:
            raise ConfigError(f"augment.own.{name}: {error}") from None
        found.append((name, partial(one.function, **options)))
    return tuple(found)


def checked_table(table: Any) -> dict[str, dict[str, Any]]:
    """The setting `Augmentation.own` as plain values. Nothing needs to be registered.

    Args:
        table: Name -> its options; True: none, False: the augmentation is off.

    Returns:
        Name -> its options, in the order of the names, without those that are off.

    Raises:
        ConfigError: It is no such table.
    """
    example = "give a table of names, such as { swap = { probability = 0.5 } }"
    if not isinstance(table, Mapping):
        raise ConfigError(f"augment.own = {shown(table)}: {example}")
    found = {}
    for name, options in table.items():
        if not isinstance(name, str):
            raise ConfigError(f"augment.own = {shown(table)}: {example}")
        if options is True:
            options = {}
        if options is False:
            continue
        if not isinstance(options, Mapping):
            raise ConfigError(
                f"augment.own.{name} = {shown(options)}: give a table of options, such as"
                " { probability = 0.5 }, or true or false"
            )
        found[name] = {str(key): _plain(one, f"{name}.{key}") for key, one in options.items()}
    return dict(sorted(found.items()))


def _plain(value: Any, where: str) -> Any:
    """A value of an option as TOML has it: a text, a finite number, a truth value, or a list."""
    if isinstance(value, bool | str):
        return value
    if is_number(value):
        return value.item() if hasattr(value, "item") else value
    if isinstance(value, list | tuple):
        return [_plain(part, where) for part in value]
    raise ConfigError(
        f"augment.own.{where} = {shown(value)}: give a text, a finite number, true or false,"
        " or a list"
    )
