"""A configuration as TOML.

In: a RunConfig. Out: text that `read_config` turns into an equal one.
"""

from __future__ import annotations

import json
from typing import Any

from slipform.train.config.run_config import RunConfig

__all__ = ["to_toml"]


def to_toml(config: RunConfig) -> str:
    """Write a configuration as TOML. `read_config` turns the text into an equal RunConfig.

    Settings of None are left out: TOML has no null.

    Args:
        config: The configuration of a run.
    """
    data = config.model_dump()
    lines = [
        f"{key} = {_value(value)}" for key, value in data.items() if not isinstance(value, dict)
    ]
    for section, values in data.items():
        if isinstance(values, dict):
            lines += ["", f"[{section}]"]
            lines += [
                f"{key} = {_value(value)}" for key, value in values.items() if value is not None
            ]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case int() | float():
            return repr(value)
        case list() | tuple():
            return f"[{', '.join(map(_value, value))}]"
        case dict():
            pairs = (f"{_value(str(key))} = {_value(v)}" for key, v in value.items())
            return f"{{ {', '.join(pairs)} }}" if value else "{}"
    # No field has another type.
    raise TypeError(f"{value!r} ({type(value).__name__}) has no TOML form")  # pragma: no cover
