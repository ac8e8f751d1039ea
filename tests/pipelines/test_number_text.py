"""Numbers as text for people."""

from __future__ import annotations

import math

import pytest

from slipform.pipelines.number_text import number_of, number_text


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.0123456, 4, "0.01235"),
        (12.3456, 4, "12.35"),
        (9999.4, 4, "9999"),
        (9999.6, 4, "10,000"),
        (-734565.2, 4, "-734,565"),
        (1234.5, 3, "1,234"),
        (134.0, 2, "134"),
        (3.2e30, 4, "3.2e+30"),
        (0.0, 4, "0"),
        (math.inf, 4, "inf"),
        (math.nan, 4, "nan"),
    ],
)
def test_no_exponent_where_none_is_needed(value: float, digits: int, text: str) -> None:
    assert number_text(value, digits) == text


def test_a_noun_has_its_plural() -> None:
    found = [number_of(count, "core") for count in (0, 1, 2, 12345)]
    assert found == ["0 cores", "1 core", "2 cores", "12,345 cores"]
