"""Checks of a report's conclusions: expressions over measured results.

In: an expression such as `val_accuracy["lr-0.01"] > val_accuracy["lr-0.1"]`, and the results. Out:
whether it holds, or None if a result is missing.

The expressions are a part of Python's: comparisons, `and`, `or`, `not`, `+ - * /`, `abs`, `min`,
`max`, numbers, `COLUMN["RUN"]`, `STUDY.COLUMN["RUN"]`. `diverged["RUN"]` is True or False.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

from slipform.pipelines.errors import ConfigError

__all__ = ["Results", "evaluate"]

# Study -> run -> column -> value. A run that has no result is left out.
Results = Mapping[str, Mapping[str, Mapping[str, float | bool]]]

_OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Lt: operator.lt, ast.LtE: operator.le,
    ast.Eq: operator.eq,
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[..., float]] = {"abs": abs, "min": min, "max": max}


class _Missing(Exception):
    """A result that the expression needs was not measured."""


def evaluate(text: str, study: str, results: Results) -> bool | None:
    """Evaluate a check.

    Args:
        text: The expression.
        study: The study of columns without one: "A1".
        results: The measured results.

    Returns:
        Whether it holds; None if a result is missing.

    Raises:
        ConfigError: The expression has another form.
    """
    try:
        return bool(_value(ast.parse(text, mode="eval").body, study, results))
    except _Missing:
        return None
    except (SyntaxError, TypeError, ZeroDivisionError) as error:
        raise ConfigError(f'"{text}" is no check: {error}') from error


def _value(node: ast.expr, study: str, results: Results) -> Any:
    def value(inner: ast.expr) -> Any:
        return _value(inner, study, results)

    match node:
        case ast.Constant(value=bool() | int() | float() as number):
            return number
        case ast.BoolOp(op=ast.And(), values=parts):
            return all(value(part) for part in parts)
        case ast.BoolOp(op=ast.Or(), values=parts):
            return any(value(part) for part in parts)
        case ast.UnaryOp(op=ast.Not(), operand=inner):
            return not value(inner)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](value(left), value(right))
        case ast.Compare(left=left, ops=ops, comparators=others):
            values = [value(left), *(value(other) for other in others)]
            return all(_operator(op)(values[i], values[i + 1]) for i, op in enumerate(ops))
        case ast.Call(func=ast.Name(id=name), args=arguments) if name in _FUNCTIONS:
            return _FUNCTIONS[name](*(value(argument) for argument in arguments))
        case ast.Subscript(value=ast.Name(id=column), slice=ast.Constant(value=str() as run)):
            return _result(results, study, run, column)
        case ast.Subscript(
            value=ast.Attribute(value=ast.Name(id=other), attr=column),
            slice=ast.Constant(value=str() as run),
        ):
            return _result(results, other, run, column)
    raise ConfigError(f'"{ast.unparse(node)}" is no part of a check')


def _operator(op: ast.cmpop) -> Callable[[Any, Any], Any]:
    if type(op) not in _OPERATORS:
        raise ConfigError(f"{type(op).__name__} is no operator of a check")
    return _OPERATORS[type(op)]


def _result(results: Results, study: str, run: str, column: str) -> float | bool:
    try:
        return results[study][run][column]
    except KeyError:
        raise _Missing from None
