"""Checks of a report's conclusions: expressions over measured results.

In: an expression such as `val_accuracy["lr-0.01"] > val_accuracy["lr-0.1"]`, and the results. Out:
a verdict.

The expressions are a part of Python's: comparisons, `and`, `or`, `not`, `+ - * /`, numbers,
`COLUMN["RUN"]`, `STUDY.COLUMN["RUN"]`. `diverged["RUN"]` is True or False. A column that begins
with "epochs_", such as `epochs_train_loss["RUN"]`, has one number for each epoch: `[0]` is the
first one, `[-1]` the last one, `[5:]` are those after the fifth. The functions are `abs`, `min`,
`max`, `len`, `mean`, and `rising` and `falling`: the share of the steps from epoch to epoch that
go up or down.
"""

from __future__ import annotations

import ast
import itertools
import operator
from collections.abc import Callable, Mapping, Sequence
from statistics import mean
from typing import Any, Literal

from slipform.pipelines.errors import ConfigError

__all__ = ["Results", "Value", "Verdict", "evaluate", "used"]

Value = float | bool | Sequence[float]
# Study -> run -> column -> value. What was not measured is left out.
Results = Mapping[str, Mapping[str, Mapping[str, Value]]]
Verdict = Literal["holds", "holds as far as tested", "does not hold", "not tested"]


def _rising(values: Sequence[float]) -> float:
    steps = [after > before for before, after in itertools.pairwise(values)]
    return mean(steps) if steps else 0.0


def _falling(values: Sequence[float]) -> float:
    return _rising([-value for value in values])


_OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Lt: operator.lt, ast.LtE: operator.le,
    ast.Eq: operator.eq,
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[..., float]] = {
    "abs": abs, "min": min, "max": max, "len": len, "mean": mean, "rising": _rising,
    "falling": _falling,
}  # fmt: skip


class _Missing(Exception):
    """A result that the expression needs was not measured."""


def evaluate(text: str, study: str, results: Results) -> Verdict:
    """Evaluate a check.

    Args:
        text: The expression.
        study: The study of columns without one: "A1".
        results: The measured results.

    Returns:
        The verdict. "holds as far as tested": of several parts that `and` connects, some hold, and
        the results of the others are missing.

    Raises:
        ConfigError: The expression has another form.
    """
    try:
        node = ast.parse(text, mode="eval").body
        several = isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And)
        parts = node.values if several and isinstance(node, ast.BoolOp) else [node]
        found = [_truth(part, study, results) for part in parts]
    except (SyntaxError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ConfigError(f'"{text}" is no check: {error}') from error
    if False in found:
        return "does not hold"
    if None not in found:
        return "holds"
    return "holds as far as tested" if True in found else "not tested"


def used(text: str, study: str) -> list[tuple[str, str, str]]:
    """The results that a check needs.

    Args:
        text: The expression.
        study: The study of columns without one.

    Returns:
        (study, column, run), each once, in their order in the text.
    """
    found = [
        name
        for node in ast.walk(ast.parse(text, mode="eval"))
        if (name := _name(node, study)) is not None
    ]
    return list(dict.fromkeys(found))


def _name(node: ast.AST, study: str) -> tuple[str, str, str] | None:
    """(study, column, run) of COLUMN["RUN"] or STUDY.COLUMN["RUN"]."""
    match node:
        case ast.Subscript(value=ast.Name(id=column), slice=ast.Constant(value=str() as run)):
            return study, column, run
        case ast.Subscript(
            value=ast.Attribute(value=ast.Name(id=other), attr=column),
            slice=ast.Constant(value=str() as run),
        ):
            return other, column, run
    return None


def _truth(node: ast.expr, study: str, results: Results) -> bool | None:
    try:
        return bool(_value(node, study, results))
    except _Missing:
        return None


def _value(node: ast.expr, study: str, results: Results) -> Any:
    def value(inner: ast.expr) -> Any:
        return _value(inner, study, results)

    if (name := _name(node, study)) is not None:
        return _result(results, *name)
    match node:
        case ast.Constant(value=bool() | int() | float() as number):
            return number
        case ast.BoolOp(op=ast.And(), values=parts):
            return all(value(part) for part in parts)
        case ast.BoolOp(op=ast.Or(), values=parts):
            return any(value(part) for part in parts)
        case ast.UnaryOp(op=ast.Not(), operand=inner):
            return not value(inner)
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return -value(inner)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](value(left), value(right))
        case ast.Compare(left=left, ops=ops, comparators=others):
            values = [value(left), *(value(other) for other in others)]
            return all(_operator(op)(values[i], values[i + 1]) for i, op in enumerate(ops))
        case ast.Call(func=ast.Name(id=called), args=arguments, keywords=[]) if (
            called in _FUNCTIONS
        ):
            return _FUNCTIONS[called](*(value(argument) for argument in arguments))
        case ast.Subscript(value=of, slice=ast.Slice(lower=lower, upper=upper, step=None)):
            limits = [None if limit is None else _place(limit) for limit in (lower, upper)]
            found = _epochs(value(of))[slice(*limits)]
            if not found:
                raise _Missing
            return found
        case ast.Subscript(value=of, slice=at):
            place, numbers = _place(at), _epochs(value(of))
            if not -len(numbers) <= place < len(numbers):
                raise _Missing  # a run with fewer epochs
            return numbers[place]
    raise ConfigError(f'"{ast.unparse(node)}" is no part of a check')


def _operator(op: ast.cmpop) -> Callable[[Any, Any], Any]:
    if type(op) not in _OPERATORS:
        raise ConfigError(f"{type(op).__name__} is no operator of a check")
    return _OPERATORS[type(op)]


def _place(node: ast.expr) -> int:
    match node:
        case ast.Constant(value=int() as place) if not isinstance(place, bool):
            return place
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return -_place(inner)
    raise ConfigError(f'"{ast.unparse(node)}" is no number of an epoch')


def _epochs(values: Any) -> Sequence[float]:
    if not isinstance(values, list | tuple):
        raise ConfigError("only a column of epochs has an epoch in brackets")
    return values


def _result(results: Results, study: str, column: str, run: str) -> Value:
    try:
        return results[study][run][column]
    except KeyError:
        raise _Missing from None
