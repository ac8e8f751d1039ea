"""A figure of paired runs: both arms of each seed on one line, and the mean difference.

In: the results of two arms, one for each seed, and the interval of the mean difference. Out: a
drawing for the report. The order of the lines is that of the seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from slipform.bench.result.panels import WIDTH, Drawing
from slipform.bench.result.result import Estimate, Row

__all__ = ["Pairs", "pairs_of"]

_TOP, _LEGEND, _LINE, _SCALE = 26.0, 18.0, 15.0, 22.0
_LETTERS = 52  # of a legend
_LEFT = 54.0  # where the lines of the seeds begin
_RADIUS = 3.6


@dataclass(frozen=True)
class Pairs(Drawing):
    """Two arms, paired by their seeds.

    Attributes:
        title: The title.
        unit: The text at the right of it.
        arms: The settings of A and of B.
        results: The results of A and of B, one for each seed.
        mean: The mean difference B - A with its interval; None: there are too few seeds
            for one.
    """

    arms: tuple[str, str]
    results: tuple[tuple[float, ...], tuple[float, ...]]
    mean: Estimate | None

    @property
    def height(self) -> float:
        """The height of the drawing."""
        lines = len(self.results[0])
        return _TOP + 2 * _LEGEND + lines * _LINE + _SCALE + (3 * _LINE + _SCALE)

    @property
    def words(self) -> str:
        """The content as text, for screen readers."""
        said = "; ".join(
            f"seed {seed}: A {a:.4f}, B {b:.4f}"
            for seed, (a, b) in enumerate(zip(*self.results, strict=True))
        )
        return f"{self.title}. A: {self.arms[0]}. B: {self.arms[1]}. {said}. {self._difference()}"

    def _difference(self) -> str:
        if self.mean is None:
            return "B - A: too few seeds for an interval"
        return f"B - A: {self.mean.median:+.4f} ({self.mean.low:+.4f} to {self.mean.high:+.4f})"

    def drawing(self) -> str:
        """The content of the SVG element."""
        parts = self.heading()
        for number, (kind, name) in enumerate(zip(("peer", "ours"), "AB", strict=True)):
            y = _TOP + number * _LEGEND + 8
            text = f"{name}: {self.arms[number]}"
            text = text if len(text) <= _LETTERS else f"{text[: _LETTERS - 1]}…"
            parts += [_dot(kind, _RADIUS, y - 4), f'<text x="12" y="{y:g}">{escape(text)}</text>']
        top = _TOP + 2 * _LEGEND + 4
        values = [*self.results[0], *self.results[1]]
        at = _Axis(min(values), max(values))
        for seed, (a, b) in enumerate(zip(*self.results, strict=True)):
            y = top + seed * _LINE + _LINE / 2
            parts += [
                f'<text class="muted" x="0" y="{y + 4:g}">seed {seed}</text>',
                f'<path class="spread" d="M{at(a):.1f} {y:g}H{at(b):.1f}"/>',
                _dot("peer", at(a), y),
                _dot("ours", at(b), y),
            ]
        top += len(self.results[0]) * _LINE
        parts += _ends(min(values), max(values), at, top + 14)
        return "\n".join([*parts, *self._mean(top + _SCALE + _LINE)]) + "\n"

    def _mean(self, top: float) -> list[str]:
        """The interval of the mean difference, with a line at 0."""
        parts = [f'<text x="0" y="{top:g}">{escape(self._difference())}</text>']
        if self.mean is None:
            return parts
        low, high = min(self.mean.low, 0.0), max(self.mean.high, 0.0)
        at, y = _Axis(low, high), top + _LINE
        return [
            *parts,
            f'<path class="mark" d="M{at(0):.1f} {y - 7:g}V{y + 7:g}"/>',
            f'<path class="spread" d="M{at(self.mean.low):.1f} {y:g}H{at(self.mean.high):.1f}"/>',
            _dot("ours", at(self.mean.median), y),
            f'<text class="muted" x="{at(0) - 3:.1f}" y="{y + 20:g}">0</text>',
        ]


class _Axis:
    """The places of values between `low` and `high` on the lines of the seeds."""

    def __init__(self, low: float, high: float) -> None:
        self._low, span = low, WIDTH - _LEFT - 2 * _RADIUS
        self._scale = span / (high - low) if high > low else 0.0

    def __call__(self, value: float) -> float:
        return _LEFT + _RADIUS + (value - self._low) * self._scale


def _ends(low: float, high: float, at: _Axis, y: float) -> list[str]:
    return [
        f'<text class="muted" x="{at(low) - _RADIUS:.1f}" y="{y:g}">{low:.4f}</text>',
        f'<text class="muted end" x="{WIDTH:g}" y="{y:g}">{high:.4f}</text>',
    ]


def _dot(kind: str, x: float, y: float) -> str:
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:g}" r="{_RADIUS:g}"/>'


def pairs_of(rows: Sequence[Row]) -> list[Pairs]:
    """The figures of comparisons by pairs.

    Args:
        rows: Rows of `bench ab`. Rows without results have no figure.
    """
    found = []
    for row in rows:
        arms = tuple(_numbers(row, name) for name in ("a_results", "b_results"))
        if row.status != "ok" or not arms[0] or len(arms[0]) != len(arms[1]):
            continue
        title = f"{row.case.get('recipe')}, {row.case.get('data')}"
        found.append(
            Pairs(
                title=title,
                unit=str(row.case.get("metric")).replace("_", " "),
                arms=(str(row.case.get("a")), str(row.case.get("b"))),
                results=(arms[0], arms[1]),
                mean=row.figures.get("mean_difference"),
            )
        )
    return found


def _numbers(row: Row, name: str) -> tuple[float, ...]:
    return tuple(float(text) for text in str(row.settings.get(name) or "").split())
