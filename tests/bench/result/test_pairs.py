"""The figure of paired runs shows the results of each seed at their places on one axis."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from slipform.bench.result.environment import stamp
from slipform.bench.result.pairs import pairs_of
from slipform.bench.result.report import page
from slipform.bench.result.result import Result, Row
from slipform.bench.suites import layouts
from slipform.bench.suites.ab import row_of

CASE = {"data": "shapes", "recipe": "demo", "a": "lr=0.1 <&>", "b": "lr=0.2", "metric": "val_loss"}
A = (0.5, 0.7, 0.6, 0.62, 0.58, 0.61)
B = (0.55, 0.9, 0.65, 0.67, 0.66, 0.67)


def _row() -> Row:
    return row_of(dict(CASE), (A, B), 0.05)


def _circles(text: str) -> list[tuple[str, float, float]]:
    found = re.findall(r'<circle class="(\w+)" cx="([\d.]+)" cy="([\d.]+)"', text)
    return [(kind, float(x), float(y)) for kind, x, y in found]


def test_each_seed_has_both_arms_at_their_places() -> None:
    (figure,) = pairs_of([_row()])
    dots = _circles(figure.drawing())[2:]  # after those of the legend
    a, b = ([x for kind, x, _ in dots[:12] if kind == name] for name in ("peer", "ours"))
    low, high = a[0], b[1]  # the smallest and the largest result
    for found, results in ((a, A), (b, B)):
        places = [low + (value - 0.5) / 0.4 * (high - low) for value in results]
        assert found == pytest.approx(places, abs=0.11)
    lines = [y for _, _, y in dots[:12]]
    assert lines[::2] == lines[1::2] == sorted(lines[::2])
    assert max(y for _, _, y in dots) < figure.height


def test_the_words_have_all_numbers() -> None:
    (figure,) = pairs_of([_row()])
    assert "seed 1: A 0.7000, B 0.9000" in figure.words
    assert f"B - A: +{(sum(B) - sum(A)) / 6:.4f} (" in figure.words
    assert "lr=0.1 &lt;&amp;&gt;" in figure.drawing()


@pytest.mark.parametrize("results", [((0.5,), (0.6,)), ((0.5, 0.5), (0.5, 0.5))])
def test_one_seed_and_equal_results_are_drawn(
    results: tuple[tuple[float, ...], tuple[float, ...]],
) -> None:
    (figure,) = pairs_of([row_of(dict(CASE), results, 0.05)])
    assert "nan" not in figure.drawing()
    assert len(_circles(figure.drawing())) >= 2 + 2 * len(results[0])


def test_rows_without_results_have_no_figure() -> None:
    """Those of failed comparisons, and of results before they had all seeds."""
    row = _row()
    old = Row(suite="ab", case=row.case, settings={"seeds": 3}, figures=row.figures)
    failed = Row(suite="ab", case=row.case, status="failed", note="diverged")
    assert pairs_of([old, failed]) == []


def test_the_page_has_the_figure() -> None:
    result = Result(environment=stamp(), command="bench ab", rows=[_row()])
    text = page([(Path("ab.json"), result)], layouts())
    assert "Both arms of each seed" in text
    assert text.count('<circle class="ours"') == 1 + 6 + 1
