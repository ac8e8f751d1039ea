"""A configuration as TOML.

In: a RunConfig. Out: text; `read_config` turns it into an equal RunConfig.
"""

from __future__ import annotations

from slipform.pipelines.toml_text import value_text
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
        f"{key} = {value_text(value)}" for key, value in data.items() if not isinstance(value, dict)
    ]
    for section, values in data.items():
        if isinstance(values, dict):
            lines += ["", f"[{section}]"]
            lines += [
                f"{key} = {value_text(value)}" for key, value in values.items() if value is not None
            ]
    return "\n".join(lines) + "\n"
