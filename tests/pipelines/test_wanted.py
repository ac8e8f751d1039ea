"""What a value may be, in words, for types and errors of pydantic."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from slipform.pipelines.errors import ConfigError
from slipform.pipelines.options import converted
from slipform.pipelines.wanted import type_words, wanted


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (int, "a whole number"),
        (bool | Literal["auto"], 'true or false or "auto"'),
        (Annotated[float, Field(ge=0)] | None, "a number"),
        (Literal["a", "b", "c"], '"a", "b" or "c"'),
        (tuple[str, ...], "a list of texts"),
        (list[int], "a list of whole numbers"),
        (tuple[float, float], "a list of 2 numbers"),
        (tuple[tuple[int, int], ...], "a list of lists of 2 whole numbers"),
        (tuple[str, int], "a list of a text, a whole number"),
        (str | dict[str, float], "a text or a table, such as { NAME = VALUE }"),
        (object, ""),
    ],
)
def test_types(kind: Any, words: str) -> None:
    assert type_words(kind) == words


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (Annotated[int, Field(ge=1)], 0, "at least 1"),
        (Annotated[float, Field(gt=0)], -0.5, "more than 0"),
        (Annotated[float, Field(lt=0.5)], 1.0, "less than 0.5"),
        (Annotated[float, Field(le=0.5)] | Literal["auto"], 1.0, 'at most 0.5 or "auto"'),
        (Annotated[int, Field(ge=1)] | Literal["auto"], "x", 'a whole number or "auto"'),
        (tuple[int, int], [1], "a list of 2 whole numbers"),
        (tuple[int, int], [1, 2, 3], "a list of 2 whole numbers"),
        (int, 1.5, "a whole number"),
    ],
)
def test_errors(kind: Any, value: Any, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(kind).validate_python(value)
    assert wanted(caught.value.errors(), kind) == words


def test_options_of_a_function() -> None:
    known = {"rate": Annotated[float, Field(ge=0, lt=1)], "places": int}
    for values, says in (
        ({"rate": 1.0}, 'model.options.rate = 1.0 for "tiny": give less than 1'),
        ({"rate": "x"}, 'model.options.rate = "x" for "tiny": give a number'),
        ({"places": 1.5}, 'model.options.places = 1.5 for "tiny": give a whole number'),
    ):
        with pytest.raises(ConfigError) as caught:
            converted(values, known, "tiny", "model.options")
        assert caught.value.message == says
