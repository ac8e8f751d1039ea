"""Figures of the report: panels, such as `Panel` of horizontal bars, as SVG.

In: bars, each with a name and an estimate. Out: SVG without a size, for a page that has the styles,
or one file with all panels. The same bars give the same bytes: committed figures change only with
their numbers. No drawing library is used: texts stay texts, a panel is readable at the width of a
phone, and it has the colors of the page, light or dark.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Self

from slipform.bench.result.quantities import quantity
from slipform.bench.result.result import Estimate
from slipform.train.page.style import colors

__all__ = ["FIGURE", "WIDTH", "Bar", "Drawing", "Panel", "whole_file"]

# The styles of a figure. A page has them once; a file with panels has them, and the colors.
FIGURE = """\
.figure text { font: 12px system-ui, sans-serif; fill: var(--ink); }
.figure .title { font-weight: 600; font-size: 13px; }
.figure .median { font-weight: 600; }
.figure .muted { fill: var(--muted); }
.figure .end { text-anchor: end; }
.figure .track { fill: var(--line); opacity: .45; }
.figure .ours { fill: var(--ours); }
.figure .peer { fill: var(--peer); }
.figure .spread { stroke: var(--ink); stroke-width: 1.2; }
.figure .mark { stroke: var(--mark); stroke-width: 2.5; }
"""

WIDTH = 360.0
_TITLE, _BAR = 30.0, 8.0
_ROW, _EMPTY_ROW = 36.0, 22.0
_LETTERS = 56  # maximum length of a name and its number, which are in one line
_COLUMNS, _GAP, _MARGIN = 3, 28.0, 14.0


@dataclass(frozen=True)
class Bar:
    """One bar.

    Attributes:
        name: The text above the bar.
        estimate: The length of the bar and its interval; None: `note` is shown instead of a bar.
        ours: Whether it is of Slipform; this sets the color.
        note: Why there is no estimate.
        mark: A value to compare the bar with, drawn as a line across it; None: no line.
    """

    name: str
    estimate: Estimate | None
    ours: bool
    note: str = ""
    mark: float | None = None

    @property
    def height(self) -> float:
        """The height of the bar with its text."""
        return _ROW if self.estimate else _EMPTY_ROW


@dataclass(frozen=True)
class Drawing(ABC):
    """A part of a figure, `WIDTH` wide.

    Attributes:
        title: The title.
        unit: The text at the right of the title, such as a unit.
    """

    title: str
    unit: str

    @property
    @abstractmethod
    def height(self) -> float:
        """The height of the drawing."""

    @property
    @abstractmethod
    def words(self) -> str:
        """The content as text, for screen readers."""

    @abstractmethod
    def drawing(self) -> str:
        """The content of the SVG element."""

    def with_unit(self, unit: str) -> Self:
        """The same drawing with another unit.

        Args:
            unit: The text at the right of the title.
        """
        return replace(self, unit=unit)

    def svg(self) -> str:
        """The drawing as an SVG element, for a page that has the styles."""
        return (
            f'<svg class="figure" role="img" aria-label="{escape(self.words)}"'
            f' viewBox="0 0 {WIDTH:g} {self.height:g}">\n{self.drawing()}</svg>\n'
        )

    def heading(self) -> list[str]:
        """The elements of the title and the unit."""
        return [
            f'<text class="title" x="0" y="14">{escape(self.title)}</text>',
            f'<text class="muted end" x="{WIDTH:g}" y="14">{escape(self.unit)}</text>',
        ]


@dataclass(frozen=True)
class Panel(Drawing):
    """Bars of one quantity, on one scale that begins at 0.

    Attributes:
        title: The title.
        unit: The unit, if the texts of the numbers do not include it.
        figure: The name of the quantity; see slipform.bench.result.quantities.
        bars: The bars, from top to bottom.
    """

    figure: str
    bars: tuple[Bar, ...]

    @property
    def height(self) -> float:
        """The height of the panel."""
        return _TITLE + sum(bar.height for bar in self.bars)

    @property
    def words(self) -> str:
        """The content of the panel as text, for screen readers."""
        said = (f"{bar.name} {self._value(bar) or bar.note}" for bar in self.bars)
        unit = f", {self.unit}" if self.unit else ""
        return f"{self.title}{unit}: {'; '.join(said)}"

    def drawing(self) -> str:
        """The content of the SVG element."""
        parts = self.heading()
        estimates = [bar.estimate.high for bar in self.bars if bar.estimate]
        marks = [bar.mark for bar in self.bars if bar.mark is not None]
        most = max([*estimates, *marks], default=0.0) or 1.0
        top = _TITLE
        for bar in self.bars:
            parts += self._bar(bar, top, WIDTH / most)
            top += bar.height
        return "\n".join(parts) + "\n"

    def _bar(self, bar: Bar, top: float, scale: float) -> list[str]:
        median, bracket, rest = self._value(bar).partition(" (")
        room = _LETTERS - len(median + bracket + rest)
        name = bar.name if len(bar.name) <= room else f"{bar.name[: room - 1]}…"
        y, middle = top + 19, top + 19 + _BAR / 2
        parts = [f'<text x="0" y="{top + 13:g}">{escape(name)}</text>']
        if bar.estimate is None:
            return [*parts, _text(f'<tspan class="muted">{escape(bar.note)}</tspan>', top)]
        spread = f'<tspan class="muted">{escape(bracket + rest)}</tspan>'
        parts.append(_text(f'<tspan class="median">{escape(median)}</tspan>{spread}', top))
        parts.append(_rectangle("track", y, WIDTH))
        length, low, high = (
            value * scale for value in (bar.estimate.median, bar.estimate.low, bar.estimate.high)
        )
        parts.append(_rectangle("ours" if bar.ours else "peer", y, length))
        if bar.estimate.repeats > 1:
            parts.append(f'<path class="spread" d="M{low:.1f} {middle:g}H{high:.1f}"/>')
        if bar.mark is not None:
            at = min(bar.mark * scale, WIDTH - 1.5)
            parts.append(f'<path class="mark" d="M{at:.1f} {y - 3:g}V{y + _BAR + 3:g}"/>')
        return parts

    def _value(self, bar: Bar) -> str:
        return quantity(self.figure).text(bar.estimate)


def whole_file(panels: Sequence[Drawing], title: str) -> str:
    """Make an SVG file of panels, three in a row, that contains its styles.

    Args:
        panels: The panels, at least one.
        title: The title of the file.
    """
    columns = min(_COLUMNS, len(panels))
    rows = [panels[start : start + columns] for start in range(0, len(panels), columns)]
    width = columns * WIDTH + (columns - 1) * _GAP + 2 * _MARGIN
    parts, top = [], _MARGIN + 30
    for row in rows:
        for number, panel in enumerate(row):
            left = _MARGIN + number * (WIDTH + _GAP)
            parts.append(f'<g transform="translate({left:g} {top:g})">\n{panel.drawing()}</g>\n')
        top += max(panel.height for panel in row) + _GAP
    height = top - _GAP + _MARGIN
    words = escape(". ".join([title, *(panel.words for panel in panels)]))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="figure" role="img" width="{width:g}"'
        f' height="{height:g}" viewBox="0 0 {width:g} {height:g}">\n<title>{words}</title>\n'
        f"<style>\n{colors()}{FIGURE}</style>\n"
        f'<rect width="100%" height="100%" fill="var(--panel)"/>\n'
        f'<text class="title" x="{_MARGIN:g}" y="{_MARGIN + 12:g}">{escape(title)}</text>\n'
        f"{''.join(parts)}</svg>\n"
    )


def _text(content: str, top: float) -> str:
    return f'<text class="end" x="{WIDTH:g}" y="{top + 13:g}">{content}</text>'


def _rectangle(kind: str, y: float, width: float) -> str:
    return f'<rect class="{kind}" y="{y:g}" width="{width:.1f}" height="{_BAR:g}" rx="2"/>'
