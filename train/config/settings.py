"""All settings of a run: name, default, allowed words, what it is.

In: the classes of the configuration and the Attributes of their docstrings. Out: a Setting for
each, in the order of the sections. This module does not import torch.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Iterator
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from slipform.train.config.run_config import RunConfig
from slipform.train.config.section import Section
from slipform.train.config.sections import VARIANTS

__all__ = ["Setting", "settings"]


@dataclasses.dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        name: The name for `--set`, such as "train.epochs".
        default: The default in TOML; "" where there is none.
        words: The allowed words; empty where the setting is no choice of words.
        text: The description of the setting.
        read_by: The optimizers, schedules or losses that have the setting; empty: all of them.
        number: int or float where the setting may be one number; else None.
    """

    name: str
    default: str
    words: tuple[str, ...]
    text: str
    read_by: tuple[str, ...] = ()
    number: type[int] | type[float] | None = None

    def __str__(self) -> str:
        told = all(f'"{word}"' in self.text for word in self.words)
        words = "" if told else f" One of {', '.join(self.words)}."
        readers = f" Of {', '.join(self.read_by)}." if self.read_by else ""
        return f"{self.text}{words}{readers}"


def settings() -> list[Setting]:
    """All settings, in the order of a recipe's sections."""
    config, found = RunConfig(), [Setting("description", '""', (), "What the run is, in words.")]
    for section in RunConfig.model_fields:
        if section in VARIANTS:
            found += _of_variants(section)
        elif section != "description":
            found += _of_section(section, getattr(config, section))
    return found


def _of_section(section: str, values: Any) -> Iterator[Setting]:
    """The settings of a section; `values` has the defaults."""
    hints, texts = get_type_hints(type(values)), _texts(type(values))
    for name, value in dict(values).items() if isinstance(values, Section) else _fields(values):
        hint = hints[name]
        yield Setting(
            f"{section}.{name}", _default(value), _words(hint), texts.get(name, ""),
            number=_number(hint),
        )  # fmt: skip


def _of_variants(section: str) -> list[Setting]:
    """The settings of all classes of a section, each setting once."""
    found: dict[str, Setting] = {}
    for variant, kind in VARIANTS[section].items():
        for one in _of_section(section, kind()):
            before = found.get(one.name, one)
            found[one.name] = dataclasses.replace(before, read_by=(*before.read_by, variant))
    names, name = tuple(VARIANTS[section]), f"{section}.name"
    all_read = {key: dataclasses.replace(one, read_by=()) for key, one in found.items()}
    chosen = {key: all_read[key] if one.read_by == names else one for key, one in found.items()}
    return [dataclasses.replace(chosen.pop(name), words=names), *chosen.values()]


def _fields(values: Any) -> list[tuple[str, Any]]:
    return [(field.name, getattr(values, field.name)) for field in dataclasses.fields(values)]


def _default(value: Any) -> str:
    if value is None:
        return ""
    if dataclasses.is_dataclass(value):
        inside = ", ".join(f"{name} = {_default(part)}" for name, part in _fields(value))
        return f"{{{inside}}}"
    return json.dumps(value)


def _words(annotation: Any) -> tuple[str, ...]:
    is_choice = get_origin(annotation) is Literal
    return tuple(str(word) for word in get_args(annotation)) if is_choice else ()


def _number(annotation: Any) -> type[int] | type[float] | None:
    """int or float, also of a union with other types."""
    kinds = get_args(annotation) or (annotation,)
    if get_origin(annotation) not in (None, Union, UnionType):
        return None  # a list or a table
    return float if float in kinds else int if int in kinds else None


def _texts(kind: type) -> dict[str, str]:
    """Name -> text, from the Attributes (or Args) of a class and of its base classes."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        doc = inspect.cleandoc(base.__dict__.get("__doc__") or "")
        part = re.search(r"^(?:Args|Attributes):\n((?: +.*\n?)*)", doc, re.MULTILINE)
        for name, text in re.findall(
            r"^    (\w+): (.*(?:\n     .*)*)", part[1] if part else "", re.MULTILINE
        ):
            found[name] = " ".join(text.split())
    return found
