"""What a value may be, in the words of an error: a whole number; at least 1 or "auto".

In: the type of a setting; errors of pydantic. Out: a text for after the word "give".
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Union

from pydantic import BaseModel

from slipform.pipelines.toml_text import shown

__all__ = ["error_words", "listed", "type_words", "wanted"]

# pydantic's names of the errors of one value.
_KINDS = {
    "bool": "true or false",
    "dict": "a table, such as { NAME = VALUE }",
    "float": "a number",
    "int": "a whole number",
    "list": "a list",
    "string": "a text",
    "tuple": "a list",
}
_BOUNDS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}
_ONE = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
_MANY = {int: "whole numbers", float: "numbers", str: "texts", bool: "true or false"}


def wanted(errors: Iterable[Mapping[str, Any]], kind: Any = None) -> str:
    """What a value may be, from the errors about it.

    Args:
        errors: Errors of pydantic, one for each member of a union.
        kind: The type of the value. None: only the errors say it.

    Returns:
        Bounds, if a bound is exceeded (at least 1 or "auto"); else the type.
    """
    every = list(errors)
    if kind is None or any(error_words(error) and not _is_of_kind(error) for error in every):
        found = dict.fromkeys(error_words(error) or error["msg"] for error in every)
        return " or ".join(found)
    return type_words(kind)


def error_words(error: Mapping[str, Any]) -> str:
    """What one error asks for.

    Args:
        error: An error of pydantic.

    Returns:
        "at least 1"; "" for kinds of errors without words.
    """
    name = str(error["type"])
    context = error.get("ctx") or {}
    if name in _BOUNDS:
        words, key = _BOUNDS[name]
        bound = context[key]
        return f"{words} {bound:g}" if isinstance(bound, float) else f"{words} {bound}"
    if name == "literal_error":
        return str(context["expected"]).replace("'", '"')
    if name == "string_pattern_mismatch":
        return f"a text that matches {context['pattern']}"
    if name == "finite_number":
        return "a finite number"
    return _KINDS.get(name.partition("_")[0], "") if _is_of_kind(error) else ""


def type_words(kind: Any) -> str:
    """A type in words.

    Args:
        kind: An annotation, such as tuple[tuple[int, int], ...].

    Returns:
        "a list of lists of 2 whole numbers". "" for types without words.
    """
    return _words(kind, many=False)


def listed(words: Iterable[str]) -> str:
    """Words with commas and "or": "a, b or c".

    Args:
        words: One or more.
    """
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


def _is_of_kind(error: Mapping[str, Any]) -> bool:
    """Whether the value has a wrong type or length."""
    name = str(error["type"])
    return name.endswith(("_type", "_parsing", "_from_float")) or name in (
        "missing",
        "too_long",
        "too_short",
    )


def _words(kind: Any, many: bool) -> str:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return _words(parts[0], many)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(filter(None, (_words(part, many) for part in parts))))
    if origin is Literal:
        return listed(map(shown, parts))
    if origin in (tuple, list):
        return ("lists of " if many else "a list of ") + _items(parts)
    if origin is dict or kind is dict or _is_section(kind):
        return "tables" if many else _KINDS["dict"]
    return (_MANY if many else _ONE).get(kind, "")


def _items(parts: tuple[Any, ...]) -> str:
    """The items of a list or tuple, whose types are known."""
    if len(parts) == 1 or parts[1:] == (...,):
        return _words(parts[0], many=True)
    if len(set(parts)) == 1:
        return f"{len(parts)} {_words(parts[0], many=True)}"
    return ", ".join(_words(part, many=False) for part in parts)


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and (
        issubclass(kind, BaseModel) or dataclasses.is_dataclass(kind)
    )
