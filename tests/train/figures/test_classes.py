"""Figures of 3, 10, 100 and 1,000 classes: names can be read, none is over another one."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from slipform.train.figures.calibration import reliability_figure
from slipform.train.figures.classes import confusion_figure, pairs_figure, per_class_figure
from slipform.train.figures.draw import short, svg
from slipform.train.scores import bootstrap
from slipform.train.scores.answers import Answers
from slipform.train.scores.judgment import Judgment, judge

SIZES = [3, 10, 100, 1000]


@cache
def judgment(classes: int) -> Judgment:
    """A model that confuses every ninth class with the next one."""
    rng = np.random.default_rng(classes)
    labels = np.repeat(np.arange(classes), 6)
    logits = rng.normal(size=(len(labels), classes)).astype(np.float32)
    logits[np.arange(len(labels)), labels] += 4
    logits[np.arange(len(labels)), (labels + 1) % classes] += np.where(labels % 9 == 0, 4, 0)
    names = [f"a long name of the class {c}" for c in range(classes)]
    with pytest.MonkeyPatch.context() as patch:
        for limit in ("_MOST", "_FEWEST"):  # resamples: these figures show no intervals
            patch.setattr(bootstrap, limit, 10)
        return judge("test", names, Answers(logits, labels, np.arange(len(labels))))


def _check_names(axis: Any, renderer: Any, side: str) -> None:
    """The names at an axis are large enough and do not overlap."""
    labels = [label for label in axis.get_ticklabels() if label.get_text()]
    assert labels
    assert all(label.get_fontsize() >= 6 for label in labels)
    boxes = sorted((label.get_window_extent(renderer) for label in labels), key=lambda b: b.y0)
    if side == "y":
        assert all(low.y1 <= high.y0 + 1 for low, high in pairwise(boxes))
    else:
        boxes.sort(key=lambda b: b.x0)
        assert all(left.x1 <= right.x0 + 1 for left, right in pairwise(boxes))


@pytest.mark.parametrize("draw", [per_class_figure, confusion_figure, pairs_figure])
@pytest.mark.parametrize(
    "classes", [pytest.param(n, marks=pytest.mark.slow if n == 1000 else ()) for n in SIZES]
)
def test_names_can_be_read(draw: Any, classes: int) -> None:
    found = judgment(classes)
    figure = draw(found.answers.confusion, found.classes)
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    axes = figure.axes[0]
    _check_names(axes.yaxis, renderer, "y")
    if draw is confusion_figure:
        _check_names(axes.xaxis, renderer, "x")
    width, height = figure.get_size_inches()
    assert max(width, height) <= 14
    inside = figure.get_tightbbox(renderer)
    assert inside.x0 >= -0.02
    assert inside.x1 <= width + 0.02
    assert inside.y0 >= -0.02
    assert inside.y1 <= height + 0.02


@pytest.mark.parametrize("classes", [100, 1000])
def test_the_worst_of_many_classes_are_named(classes: int) -> None:
    found = judgment(classes)
    axes = per_class_figure(found.answers.confusion, found.classes).axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    recall = found.scores.recall
    worst = [int(c) for c in np.argsort(recall, kind="stable")[:25]]
    assert names == [f"{short(found.classes[c])}  (6)" for c in worst]
    pair = found.pairs[0]
    pairs = pairs_figure(found.answers.confusion, found.classes).axes[0].get_yticklabels()
    expected = " → ".join(short(found.classes[c], 20) for c in (pair.actual, pair.predicted))
    assert pairs[0].get_text() == expected
    assert pair.predicted == (pair.actual + 1) % classes


def test_rows_of_the_shortened_matrix_have_all_images() -> None:
    """The last column has the predictions of all classes that have no column."""
    found = judgment(100)
    axes = confusion_figure(found.answers.confusion, found.classes).axes[0]
    rows: dict[float, float] = {}
    for text in axes.texts:
        x, y = text.get_position()
        rows[y] = rows.get(y, 0.0) + float(text.get_text().replace("<1", "0.5"))
        assert 0 <= x <= 20
    assert len(rows) == 20
    assert all(abs(total - 100) <= 3 for total in rows.values())  # rounded to whole percents


def test_nothing_is_left_where_all_predictions_have_a_column() -> None:
    """The shares of a row may add up to a little less than 1 in floating point."""
    confusion = 10 * np.eye(40, dtype=np.int64)
    confusion[:10, :10] = np.random.default_rng(0).integers(1, 9, (10, 10))
    shares = confusion[:10, :10] / confusion[:10, :10].sum(1, keepdims=True)
    assert (shares.sum(1) < 1).any()
    axes = confusion_figure(confusion, [f"class {c}" for c in range(40)]).axes[0]
    shown = [text.get_position() for text in axes.texts]
    assert len(shown) == 100
    assert not [x for x, _ in shown if x == len(axes.get_xticks()) - 1]


def test_a_model_without_errors_has_no_pairs() -> None:
    assert pairs_figure(np.eye(3, dtype=np.int64), ["a", "b", "c"]) is None


def test_svg_has_the_page_s_colors_and_ids_of_its_own() -> None:
    found = judgment(3)
    text = svg(reliability_figure(found.calibration), "Reliability <1>")
    assert 'aria-label="Reliability &lt;1&gt;"' in text
    assert "var(--ours)" in text
    assert "#1f7593" not in text
    other = svg(per_class_figure(found.answers.confusion, found.classes), "Classes")
    ids = [{part.split('"')[0] for part in one.split(' id="')[1:]} for one in (text, other)]
    assert ids[0]
    assert not ids[0] & ids[1]


def test_svg_keeps_texts_that_look_like_colors_or_attributes() -> None:
    names = ["#1f7593", 'a id="x" href="#y"', "<!-- #000000 -->"]
    text = svg(per_class_figure(np.eye(3, dtype=np.int64), names), "Classes")
    root = ElementTree.fromstring(text)
    found = ["".join(one.itertext()) for one in root.iter("{http://www.w3.org/2000/svg}text")]
    assert set(found) > {f"{name}  (1)" for name in names}


def test_long_names_are_shortened_in_the_middle() -> None:
    assert short("a" * 24) == "a" * 24
    assert short("begin" + "x" * 40 + "end", 12) == "begin…xxxend"
    assert short("line\nbreak") == "line\\nbreak"
