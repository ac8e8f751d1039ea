"""The JSON of commands: JSON has no numbers that are not finite."""

from __future__ import annotations

import json
import math

import numpy as np
from scipy.special import logit

from slipform.train.commands.json_text import json_text
from slipform.train.commands.validate_labels import values
from slipform.train.scores.label_answers import LabelAnswers
from slipform.train.scores.label_judgment import judge_labels


def _refused(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def test_numbers_that_are_not_finite_are_null() -> None:
    found = {"a": [math.nan, (1.5, math.inf)], "b": {"c": -math.inf}, "d": [1, True, None, "NaN"]}
    text = json_text(found)
    expected = {"a": [None, [1.5, None]], "b": {"c": None}, "d": [1, True, None, "NaN"]}
    assert json.loads(text, parse_constant=_refused) == expected
    assert "\n" not in text


def test_figures_of_several_labels_that_are_not_finite_are_null() -> None:
    """The loss of a wrong label with the probability 1 is infinite; the class c has no images."""
    shares = np.array([[0.9, 0.2, 1.0], [0.6, 0.7, 0.1], [0.1, 0.8, 0.1]])
    positive = (shares > 0.5) & (np.arange(3) < 2)
    answers = LabelAnswers(logit(shares).astype(np.float32), positive, np.arange(3))
    text = json_text(values(judge_labels("test", list("abc"), answers, [0.5] * 3)))
    found = json.loads(text, parse_constant=_refused)
    assert found["loss"] is None
    assert found["classes"]["c"]["average_precision"] is None
    assert found["classes"]["a"]["average_precision"] == 1
    assert found["map"] == 1
