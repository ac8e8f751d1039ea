"""Checks of the types of settings, for use without a recipe, whose types pydantic checks.

In: a dataclass of settings. Out: nothing, or an error that names the setting.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import is_dataclass
from functools import cache
from numbers import Real
from typing import Any, Literal, get_args, get_origin, get_type_hints

from slipform.pipelines.errors import ConfigError, unknown
from slipform.pipelines.limits import whole
from slipform.pipelines.toml_text import shown

__all__ = ["STRICT", "check_types", "is_number", "items"]

STRICT = {"extra": "forbid"}  # read by pydantic where a RunConfig nests a class of settings


def is_number(value: object) -> bool:
    """Whether a value is a finite number, of Python or numpy.

    Args:
        value: Any object.
    """
    return isinstance(value, Real) and math.isfinite(value)


def items(values: object) -> tuple[Any, ...]:
    """A list, tuple or array as a tuple. Anything else: an empty one.

    Args:
        values: Any object.
    """
    return tuple(values) if isinstance(values, Iterable) else ()


def check_types(settings: Any, section: str) -> None:
    """Check that numbers are numbers, words are allowed ones, and sections are sections.

    Args:
        settings: A dataclass.
        section: The name of its section in a recipe.

    Raises:
        ConfigError: A value has another type, is infinite or no number, or no allowed word.
    """
    cls: Any = type(settings)
    for name, kind in _kinds(cls).items():
        value, full = getattr(settings, name), f"{section}.{name}"
        if kind is int:
            whole(full, value)
        elif kind is float and not is_number(value):
            raise ConfigError(f"{full} = {shown(value)}: give a number")
        elif get_origin(kind) is Literal and not isinstance(value, str):
            raise ConfigError(
                f"{full} = {shown(value)}: give one of {', '.join(map(shown, get_args(kind)))}"
            )
        elif get_origin(kind) is Literal and value not in get_args(kind):
            raise unknown(full, value, get_args(kind))
        elif kind is bool and not isinstance(value, bool):
            raise ConfigError(f"{full} = {shown(value)}: give true or false")
        elif isinstance(kind, type) and is_dataclass(kind) and not isinstance(value, kind):
            example = f"{kind.__name__}(...), in a recipe {name} = {{ ... }}"
            raise ConfigError(f"{full} = {shown(value)}: give {example}")


@cache
def _kinds(cls: Any) -> dict[str, Any]:
    """The settings of a class and their types."""
    return get_type_hints(cls)
