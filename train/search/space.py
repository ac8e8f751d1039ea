"""The settings that a search varies: `--range NAME=LOW..HIGH`, `LOW..HIGH:log`, or `A,B,C`.

In: texts. Out: `Range`s, which are checked. This module imports neither torch nor optuna.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from slipform.pipelines.errors import ConfigError, unknown
from slipform.train.config.settings import settings

__all__ = ["Range", "parse_ranges"]

_SPAN = re.compile(r"(?P<low>[^.]*(?:\.\d[^.]*)?)\.\.(?P<high>.*?)(?::(?P<scale>\w*))?")
_EXAMPLES = "optimizer.lr=1e-3..1e-1:log, train.epochs=5..20 or model.name=resnet18,resnet34"


@dataclass(frozen=True)
class Range:
    """A setting and its values.

    Attributes:
        name: The name of the setting.
        low: The lowest value; None: the values are `choices`.
        high: The highest value. The range is of whole numbers if both have the type int.
        log: Whether the range is logarithmic.
        choices: Texts of TOML values or bare words.
    """

    name: str
    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    choices: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.low is None:
            return f"{self.name}={','.join(self.choices)}"
        return f"{self.name}={self.low}..{self.high}{':log' if self.log else ''}"

    @property
    def values(self) -> tuple[Any, ...]:
        """All choices, or the lowest and the highest value: what `text` takes."""
        return self.choices if self.low is None else (self.low, self.high)

    def text(self, value: Any) -> str:
        """The setting as `--set` takes it.

        Args:
            value: A value of the range.
        """
        return f"{self.name}={value!r}" if self.low is not None else f"{self.name}={value}"


def parse_ranges(texts: Sequence[str]) -> list[Range]:
    """Parse ranges.

    Args:
        texts: Such as "optimizer.lr=1e-3..1e-1:log" or "train.batch_size=32,64".

    Raises:
        ConfigError: A text is no range, a setting is unknown or given twice.
    """
    if not texts:
        raise ConfigError(f"give at least one --range, such as {_EXAMPLES}")
    found = [_parse(text) for text in texts]
    names = [one.name for one in found]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"--range {name} is given twice")
    return found


def _parse(text: str) -> Range:
    name, sign, values = (part.strip() for part in text.partition("="))
    if not sign or not values:
        raise ConfigError(f"--range {text}: give NAME=LOW..HIGH or NAME=A,B,C, such as {_EXAMPLES}")
    known = {one.name: one for one in settings()}
    if name not in known and not name.startswith("model.options."):
        raise unknown("setting", name, known)
    # A path such as ../net.pt is a choice.
    span = None if "," in values else _SPAN.fullmatch(values)
    if span is None:
        choices = tuple(dict.fromkeys(_choices(values, text)))
        if len(choices) < 2:
            raise ConfigError(f"--range {text}: one value is no range; give --set {name}={values}")
        return Range(name, choices=choices)
    if span["scale"] not in (None, "log"):
        raise ConfigError(
            f'--range {text}: ":{span["scale"]}" is no scale. Give ":log" for a logarithmic range,'
            " or nothing for a linear one"
        )
    low, high = (_number(span[key], text) for key in ("low", "high"))
    kind = known[name].number if name in known else None
    if kind is float or float in (type(low), type(high)):
        low, high = float(low), float(high)
    if kind is int and isinstance(low, float):
        raise ConfigError(
            f"--range {text}: {name} is a whole number. Give whole numbers at both ends, such as"
            f" {name}=1..8"
        )
    log = span["scale"] is not None
    if not low < high or (log and low <= 0):
        above = ", above 0 for :log" if log else ""
        raise ConfigError(f"--range {text}: the first number must be the smaller one{above}")
    return Range(name, low, high, log)


def _choices(values: str, whole: str) -> Iterator[str]:
    """The texts between commas. A comma inside a list, a table or quotation marks is no end."""
    part = ""
    for piece in values.split(","):
        part = f"{part},{piece}" if part else piece.strip()
        if part[:1] not in ("[", "{", '"', "'") or _is_toml(part):
            if part:
                yield part.strip()
            part = ""
    if part:
        raise ConfigError(
            f"--range {whole}: {part} is no TOML value. Close brackets and quotation marks, and"
            ' write texts in a list as "text"'
        )


def _is_toml(text: str) -> bool:
    try:
        tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return False
    return True


def _number(text: str, whole: str) -> int | float:
    try:
        value = tomllib.loads(f"value = {text.strip()}")["value"]
    except ValueError:
        value = _float(text)
    if type(value) in (int, float) and math.isfinite(value):
        number: int | float = value
        return number
    raise ConfigError(f'--range {whole}: "{text}" is no number; such as {_EXAMPLES}')


def _float(text: str) -> float:
    """The number in a text such as "1e-3" or ".5", which TOML may not allow; nan if it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan
