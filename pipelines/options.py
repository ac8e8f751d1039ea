"""Keyword arguments of a user's function as settings: of the builder of a net, of an augmentation.

In: a function; values from a recipe. Out: the types of its options; values of these types.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

from slipform.pipelines.errors import ConfigError, unknown
from slipform.pipelines.toml_text import shown

__all__ = ["converted", "options_of"]

_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def options_of(function: Callable[..., Any], given: tuple[str, ...], what: str) -> dict[str, Any]:
    """The options of a function: its parameters with a name, but those that it is always given.

    Args:
        function: The function.
        given: The names of the parameters that it is always given.
        what: What the function is, for errors: 'the builder of net "tiny"'.

    Returns:
        Name -> annotation, in their order; `Any` where there is no annotation.

    Raises:
        ConfigError: It does not take what it is given, or its annotations cannot be evaluated.
    """
    parameters = inspect.signature(function).parameters
    if not set(given) <= parameters.keys():
        raise ConfigError(f"{what} must take {' and '.join(given)}")
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        raise ConfigError(f"the annotations of {what} cannot be read: {error}") from error
    return {
        name: hints.get(name, Any)
        for name, parameter in parameters.items()
        if name not in given and parameter.kind in _BY_NAME
    }


def converted(
    values: Mapping[str, Any], known: Mapping[str, Any], owner: str, setting: str
) -> dict[str, Any]:
    """Convert the values of options to their types.

    Args:
        values: The values that were given, by name.
        known: The options that there are, with their types.
        owner: What has the options, for errors: "tiny".
        setting: The setting that has the values: "model.options".

    Raises:
        ConfigError: An option does not exist or has a wrong type.
    """
    from pydantic import TypeAdapter, ValidationError

    from slipform.pipelines.wanted import wanted

    options = {}
    for key, value in values.items():
        if not known:
            raise ConfigError(f'"{owner}" has no options: remove {setting}.{key}')
        if key not in known:
            raise unknown(f"{owner} option", key, known)
        try:
            options[key] = TypeAdapter(known[key]).validate_python(value)
        except ValidationError as error:
            words = wanted(error.errors(), known[key])
            raise ConfigError(
                f'{setting}.{key} = {shown(value)} for "{owner}": give {words}'
            ) from None
    return options
