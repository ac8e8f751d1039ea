"""The text for a wrong setting, in one line: where it is, what was given, what is allowed.

In: pydantic's ValidationError and the class that was validated. Out: the text of a ConfigError.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
import typing
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ValidationError

from slipform.pipelines.errors import ConfigError, nearest
from slipform.pipelines.toml_text import shown
from slipform.pipelines.wanted import error_words, listed, type_words, wanted
from slipform.train.config.sections import VARIANTS

__all__ = ["explain"]

# The smallest difflib ratio of similar words: "epoch" and "epochs" are similar, "image_size" and
# "optimizer" are not.
_CUTOFF = 0.6


def explain(error: ValidationError, root: type[BaseModel]) -> str:
    """Explain pydantic's first error.

    Args:
        error: The exception of pydantic.
        root: The class that was validated.

    Returns:
        One line: the setting, what was given, what is allowed.
    """
    complaints = error.errors()
    first = complaints[0]
    own = first.get("ctx", {}).get("error")
    if isinstance(own, ConfigError):
        return own.message
    path, owner = _place(first["loc"], root)
    where = ".".join(path)
    if first["type"] == "literal_error" and isinstance(first["input"], dict):
        # Where the setting may be a word or a table, a value in the table is wrong.
        inside = [c for c in complaints[1:] if _place(c["loc"], root)[0] == path]
        if inside := [c for c in inside if c["input"] is not first["input"]]:
            complaints, first = inside, inside[0]
            where = f"{where}.{first['loc'][-1]}"
    given, text = first["input"], shown(first["input"])
    match first["type"]:
        case "extra_forbidden" | "unexpected_keyword_argument":
            return _unknown(path, owner, root)
        case "union_tag_invalid":
            allowed = VARIANTS[where]
            name = str(first["ctx"]["tag"])
            return (
                f"{where}.name = {shown(name)}: give {listed(map(shown, allowed))}."
                f"{_near(name, allowed)}"
            )
        case "literal_error":
            expected = error_words(first)
            hint = _near(str(given), re.findall(r'"([^"]*)"', expected))
            same = (one for one in complaints if _place(one["loc"], root)[0] == path)
            if any(one["type"] == "dict_type" for one in same):
                expected += " or a table, such as { NAME = 2.0 }"
            return f"{where} = {text}: give {expected}.{hint}"
        case "json_invalid":
            return f"the settings contain text that is no Unicode: {first['msg']}"
    section = None if isinstance(given, dict) or not path else _fields(owner).get(path[-1])
    if names := ["name"] if where in VARIANTS else list(_fields(section)):
        better = f"{where}.name = {text}" if "name" in names else f"{where}.KEY = VALUE"
        known = VARIANTS.get(where) or typing.get_args(_fields(section).get("name"))
        hint = _near(given, known) if isinstance(given, str) and given not in known else ""
        said = f"{where} = {text}: {where} is a section. Give {better}"
        return f"{said}; it has: {', '.join(names)}.{hint}"
    choices = [c for c in complaints if _place(c["loc"], root)[0] == path]
    # The type of the setting, if the value is not one in its table.
    kind = _fields(owner).get(path[-1]) if path and where == ".".join(path) else None
    words = wanted(choices, kind if kind and type_words(kind) else None)
    in_list = any(isinstance(part, int) for part in first["loc"])
    said = f"{where} has {text}: give {words}" if in_list else f"{where} = {text}: give {words}"
    if not isinstance(given, str):
        return said
    if first["type"] == "tuple_type" and not in_list and _holds_texts(kind):
        return f"{said}. Write a list: {json.dumps([given])}"
    near = _near(given, re.findall(r'"([^"]*)"', words))
    return f"{said}.{near}" if near else said


def _holds_texts(kind: Any) -> bool:
    """Whether a type is a list of texts, perhaps of certain ones."""
    parts = typing.get_args(kind)
    return any(part is str or typing.get_origin(part) is typing.Literal for part in parts)


def _unknown(path: list[str], owner: Any, root: type[BaseModel]) -> str:
    """The text for a key that its table does not have."""
    key, names = path[-1], list(_fields(owner))
    section = f"section [{'.'.join(path[:-1])}]" if path[:-1] else "the top of a recipe"
    if len(path) == 2 and path[0] in VARIANTS:
        kinds = VARIANTS[path[0]]
        name = next(name for name, kind in kinds.items() if kind is owner)
        section = f'section [{path[0]}] with name = "{name}"'
        readers = [other for other, kind in kinds.items() if key in kind.model_fields]
        if readers:
            near = _nearest(names, key)
            hint = f' Did you mean "{path[0]}.{near}"?' if near else ""
            return (
                f'"{name}" has no setting "{".".join(path)}": it is a setting of'
                f" {listed(map(json.dumps, readers))}.{hint} Remove it, or choose another"
                f" {path[0]}.name. {section} has: {', '.join(names)}."
            )
    elsewhere = sorted(_settings(root), key=lambda dotted: not dotted.startswith(f"{path[0]}."))
    same = [dotted for dotted in elsewhere if dotted.rpartition(".")[2] == key]
    near = same[0] if same else _nearest([*names, *elsewhere], key)
    hint = f' Did you mean "{near}"?' if near else ""
    return f'unknown setting "{".".join(path)}".{hint} {section} has: {", ".join(names)}.'


def _settings(root: Any) -> list[str]:
    """All settings, those of tables in a section, too: "augment.policy.magnitude"."""
    found = []
    for part, kind in _fields(root).items():
        for one in VARIANTS[part].values() if part in VARIANTS else [kind]:
            for name, inner in _fields(one).items():
                found += [f"{part}.{name}", *(f"{part}.{name}.{key}" for key in _fields(inner))]
    return [dotted for dotted in found if not dotted.endswith(".name")]


def _near(given: str, allowed: Iterable[str]) -> str:
    """A suggestion for a word, as by `nearest`, also for the names of other libraries.

    "auto_augment" is the beginning of a word, "bce_with_logits" and "rand-m9-mstd0.5" begin with
    the first part of one.
    """
    words = list(allowed)
    plain, first = re.sub("[-_]", "", given), re.split("[-_]", given)[0]
    longer = [word for word in words if plain and word.replace("_", "").startswith(plain)]
    similar = difflib.get_close_matches(given, words, n=1, cutoff=0.8)
    begun = [word for word in words if word.split("_")[0] == first]
    return nearest(next(iter([*longer, *similar, *begun]), given), words)


def _nearest(names: Iterable[str], key: str) -> str:
    """The name whose last part is most similar to `key`; "" where none is similar."""
    best, found = _CUTOFF, ""
    for name in names:
        ratio = difflib.SequenceMatcher(None, name.rpartition(".")[2], key).ratio()
        if ratio > best:
            best, found = ratio, name
    return found


def _place(loc: tuple[int | str, ...], root: type[BaseModel]) -> tuple[list[str], Any]:
    """The path of names to an error, and the class that has (or lacks) the last name.

    The path has no positions in lists and no names of pydantic for the parts of a union.
    """
    path: list[str] = []
    owner: Any = root  # the class that may have the next name
    last: Any = root
    for part in loc:
        if not isinstance(part, str):
            continue
        if len(path) == 1 and path[0] in VARIANTS and owner is None:
            owner = VARIANTS[path[0]].get(part)
        elif _fields(owner):
            path.append(part)
            last, owner = owner, _fields(owner).get(part)
            if len(path) == 1 and part in VARIANTS:
                owner = None
    return path, last


def _fields(kind: Any) -> dict[str, Any]:
    """Field name -> its class, for a pydantic model or a dataclass; empty for other classes."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {name: field.annotation for name, field in kind.model_fields.items()}
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return dict(typing.get_type_hints(kind))
    return {}
