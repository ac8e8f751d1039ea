"""The values of a column of labels: one label, several labels, or shares of classes.

In: a value as it was written. Out: a label. And a warning, if texts that are read as one label seem
to be several labels.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Collection, Iterable
from typing import Any

from slipform.pipelines.errors import printable
from slipform.preprocess.layouts.label_names import Label
from slipform.preprocess.listing import some

__all__ = ["as_label", "check_sum", "separator_warning"]

_SEVERAL = {"labels", "classes", "categories", "targets", "tags"}  # columns of several labels
_SUM_TOLERANCE = 1e-3  # of shares that were rounded
_SEPARATORS = re.compile(r"[;|]")
_SUSPECTED = {"|": '"|"', ";": '";"', ",": '","', " ": "spaces"}
# A list as Python prints it: `literal_eval` joins texts without a comma, and takes much else.
_ESCAPE = r"\\[\\'\"nrtxuU]"
_ITEM = rf"""(?:-?\d+|'(?:[^'\\]|{_ESCAPE})*'|"(?:[^"\\]|{_ESCAPE})*")"""
_PYTHON_LIST = re.compile(rf"\[\s*(?:{_ITEM}\s*,\s*)*(?:{_ITEM}\s*)?\]")


def as_label(value: Any, column: str, separator: str = "") -> Label:
    """A value of a column as label.

    Args:
        value: Text, a number, a truth value, a list of such, an object with a share of each class,
            or None.
        column: Name of the column. Text in a column such as "labels" is divided at ; and |, or is
            read as a list if it is one in JSON or Python.
        separator: Text is divided at this, in any column. "": it is not given.

    Returns:
        The label.

    Raises:
        ValueError: It is none.
    """
    if isinstance(value, str) and (separator or column.strip().lower() in _SEVERAL):
        listed = _as_list(value.strip())
        if listed is not None:
            return listed
        cells = value.strip().split(separator) if separator else _SEPARATORS.split(value)
        parts = [part.strip() for part in cells]
        return parts[0] if len(parts) == 1 else [part for part in parts if part]
    if isinstance(value, list | tuple):
        return [one for one in map(_as_one, value) if one is not None]
    return _as_shares(value) if isinstance(value, dict) else _as_one(value)


def separator_warning(labels: Iterable[Label]) -> str:
    """Say that texts which are read as one label seem to be several.

    They fall apart at one of four separators, and two parts of a text are labels of other rows, or
    there are half as many different parts as texts.

    Args:
        labels: The labels of all rows.

    Returns:
        One sentence without control characters. "": no text seems to be several labels.
    """
    known = {str(label).strip() for label in labels if isinstance(label, str | int)}
    for separator, words in _SUSPECTED.items():
        parts_of = {
            label: {part.strip() for part in label.split(separator)} - {""}
            for label in sorted(known)
            if separator in label
        }
        divided = {label: parts for label, parts in parts_of.items() if len(parts) > 1}
        found = [label for label, parts in divided.items() if len(parts & known) > 1]
        if not found and divided and 2 * len(set().union(*divided.values())) <= len(divided):
            found = [*divided]
        if found:
            option = f"--label-separator '{separator}'"
            return (
                f"labels that seem to be several labels with {words} between them, and are read as"
                f" one class each: {some(found)}. To divide them: {option}"
            )
    return ""


def _as_list(text: str) -> list[str | int] | None:
    """The texts and whole numbers of a list in JSON or Python. None: the text is no such list."""
    if not (text.startswith("[") and text.endswith("]")):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        if not _PYTHON_LIST.fullmatch(text):
            return None
        try:
            found = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return None
    return found if all(type(one) in (str, int) for one in found) else None


def _as_shares(value: dict[Any, Any]) -> dict[str, float] | None:
    """Shares of classes as label. None: there are no shares."""
    found = {str(name): share for name, share in value.items() if share is not None}
    for name, share in found.items():
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise ValueError(
                "a dict is no label, unless it has a share of each class, 0 to 1:"
                f" {printable(name)} has {printable(str(share))[:40]}"
            )
        if not name.strip():
            raise ValueError("a share has no class")
    if not found:
        return None
    check_sum(found.values())
    return found


def check_sum(shares: Collection[float]) -> None:
    """Check that shares of classes sum to 1.

    Args:
        shares: The shares of an image.

    Raises:
        ValueError: They have another sum.
    """
    if abs(math.fsum(shares) - 1) > _SUM_TOLERANCE:
        raise ValueError(f"the shares sum to {math.fsum(shares):g}: give shares that sum to 1")


def _as_one(value: Any) -> str | int | None:
    """A value as one label."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        if value != value:  # how pandas writes no value
            return None
        if value.is_integer():
            return int(value)
        raise ValueError(f"{value} is a measurement, not a class")
    if value is None or isinstance(value, str | int):
        return value
    raise ValueError(f"a {type(value).__name__} is no label")
