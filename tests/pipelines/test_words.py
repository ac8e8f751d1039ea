"""The operators of `Words8` compared with numpy, for two vectors, and for a vector and a number."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from slipform.pipelines.kernel import kernel
from slipform.pipelines.words import LANES, load_words, store_units, store_words, words

OPERATORS = [
    operator.add,
    operator.mul,
    operator.xor,
    operator.and_,
    operator.or_,
    operator.lshift,
    operator.rshift,
]


@pytest.fixture
def numbers() -> np.ndarray:
    """uint64 [2, LANES]; the second row is for shifts, too."""
    random = np.random.default_rng(0)
    return np.stack(
        [random.integers(0, 2**64, LANES, np.uint64), random.integers(0, 64, LANES, np.uint64)]
    )


@pytest.mark.parametrize("apply", OPERATORS)
def test_an_operator(apply: Callable[[Any, Any], Any], numbers: np.ndarray) -> None:
    @kernel
    def compute(a, b, number, out):  # type: ignore[no-untyped-def]
        first, second = load_words(a, 0), load_words(b, 0)
        store_words(out, 0, apply(first, second))
        store_words(out, LANES, apply(first, number))
        store_words(out, 2 * LANES, apply(number, second))

    a, b, number = *numbers, np.uint64(37)
    out = np.empty(3 * LANES, np.uint64)
    compute(a, b, number, out)
    expected = np.concatenate([apply(a, b), apply(a, number), apply(np.full_like(b, number), b)])
    np.testing.assert_array_equal(out, expected)


def test_words_and_units(numbers: np.ndarray) -> None:
    """They are read and written at any position of an array."""

    @kernel
    def compute(a, number, whole, units):  # type: ignore[no-untyped-def]
        store_words(whole, 1, words(number))
        store_units(units, 1, load_words(a, 1))

    low = np.concatenate([[0], numbers[0] & np.uint64(2**32 - 1)]).astype(np.uint64)
    low[1:4] = 0, 1, 2**32 - 1
    whole, units = np.zeros(LANES + 2, np.uint64), np.zeros(LANES + 2)
    compute(low, np.uint64(2**64 - 3), whole, units)
    assert whole.tolist() == [0] + [2**64 - 3] * LANES + [0]
    assert units.tolist() == [0.0, *((low[1:] + 0.5) / 2**32).tolist(), 0.0]
