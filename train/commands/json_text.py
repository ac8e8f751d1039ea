"""The JSON that commands print.

In: values. Out: one line of JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

__all__ = ["json_text"]


def json_text(values: Mapping[str, Any]) -> str:
    """A JSON object on one line. Numbers that are not finite, which JSON does not have, are null.

    Args:
        values: Name -> value: texts, numbers, bools, None, lists, tuples and mappings.
    """
    return json.dumps(_finite(values), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return value
