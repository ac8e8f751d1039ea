"""A configuration as TOML.

In: a RunConfig, or a value. Out: text; `read_config` turns that of a RunConfig into an equal one.
"""

from __future__ import annotations

import json
from typing import Any

from slipform.train.config.run_config import RunConfig

__all__ = ["to_toml", "value_text"]


def to_toml(config: RunConfig) -> str:
    """Write a configuration as TOML. `read_config` turns the text into an equal RunConfig.

    Settings of None are left out: TOML has no null.

    Args:
        config: The configuration of a run.
    """
    data = config.model_dump()
    lines = [
        f"{key} = {value_text(value)}" for key, value in data.items() if not isinstance(value, dict)
    ]
    for section, values in data.items():
        if isinstance(values, dict):
            lines += ["", f"[{section}]"]
            lines += [
                f"{key} = {value_text(value)}" for key, value in values.items() if value is not None
            ]
    return "\n".join(lines) + "\n"


def value_text(value: Any) -> str:
    """Write a value as TOML, as in `--set NAME=VALUE`.

    Args:
        value: A text, a number, a truth value, or a list or dictionary of such.
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
    # No field has another type.
    raise TypeError(f"{value!r} ({type(value).__name__}) has no TOML form")  # pragma: no cover
