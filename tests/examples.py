"""Tests of hypothesis with few examples, and with many where slow tests run.

In: strategies, and a function that checks one example. Out: the test.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis.strategies import SearchStrategy

Check = Callable[..., None]


def examples(few: int, many: int, **strategies: SearchStrategy[Any]) -> Callable[[Check], Check]:
    """A decorator: a check becomes a test that is called with drawn arguments.

    Args:
        few: The number of examples.
        many: That of the slow test.
        **strategies: The strategy of each argument.
    """

    def decorate(check: Check) -> Check:
        def test(count: int) -> None:
            settings(max_examples=count)(given(**strategies)(check))()

        for name in ("__name__", "__qualname__", "__doc__", "__module__"):
            setattr(test, name, getattr(check, name))
        slow = pytest.param(many, marks=pytest.mark.slow)
        return pytest.mark.parametrize("count", [few, slow])(test)

    return decorate
