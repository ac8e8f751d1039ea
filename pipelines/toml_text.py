"""Values of settings as TOML, as a recipe or `--set NAME=VALUE` has them.

In: a value. Out: text.
"""

from __future__ import annotations

import json
from typing import Any

__all__ = ["shown", "value_text"]

_LONGEST = 80  # characters of a value in a message


def value_text(value: Any) -> str:
    """Write a value as TOML.

    Args:
        value: A text, a number, a truth value, or a list or dictionary of such.

    Raises:
        TypeError: TOML has no such type.
    """
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case int() | float():
            return repr(value)
        case list() | tuple():
            return f"[{', '.join(map(value_text, value))}]"
        case dict():
            pairs = (f"{value_text(str(key))} = {value_text(v)}" for key, v in value.items())
            return f"{{ {', '.join(pairs)} }}" if value else "{}"
    raise TypeError(f"{value!r} ({type(value).__name__}) has no TOML form")


def shown(value: object) -> str:
    """Write a given value for a message, at most 80 characters.

    Args:
        value: Any object. What TOML has no form for is written as Python writes it.
    """
    try:
        text = value_text(value)
    except TypeError:
        text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
