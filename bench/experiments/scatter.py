"""A figure of reported against measured values, as SVG.

In: points. Out: one SVG file, which contains its styles. The same points give the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from slipform.bench.result.panels import FIGURE
from slipform.train.page.style import colors

__all__ = ["Dot", "scatter"]

_SIDE, _LEFT, _TOP, _BELOW = 420.0, 46.0, 40.0, 74.0
_STYLE = """\
.figure .grid { stroke: var(--line); }
.figure .equal { stroke: var(--ink); stroke-dasharray: 4 4; }
.figure .hollow { fill: none; stroke: var(--peer); stroke-width: 1.5; }
.figure .middle { text-anchor: middle; }
"""


@dataclass(frozen=True)
class Dot:
    """One point.

    Attributes:
        name: Its name, shown when the pointer is on it.
        reported: The reported value, 0..1.
        measured: The measured value, 0..1.
        full: Whether it is drawn filled.
    """

    name: str
    reported: float
    measured: float
    full: bool


def scatter(dots: Sequence[Dot], title: str, full: str, hollow: str) -> str:
    """Draw reported against measured values. Both axes go from 0 to 1.

    Args:
        dots: The points.
        title: The title of the figure.
        full: The meaning of filled points.
        hollow: The meaning of other points.
    """
    width, height = _LEFT + _SIDE + 14, _TOP + _SIDE + _BELOW
    words = "; ".join(
        f"{dot.name}: reported {dot.reported:.3g}, measured {dot.measured:.3g}" for dot in dots
    )
    parts = [f'<text class="title" x="12" y="20">{escape(title)}</text>']
    for step in range(6):
        at = step / 5
        x, y = _place(at, at)
        right, bottom = _LEFT + _SIDE, _TOP + _SIDE
        parts += [
            f'<path class="grid" d="M{x:g} {_TOP:g}V{bottom:g}M{_LEFT:g} {y:g}H{right:g}"/>',
            f'<text class="muted middle" x="{x:g}" y="{bottom + 16:g}">{at:g}</text>',
            f'<text class="muted end" x="{_LEFT - 6:g}" y="{y + 4:g}">{at:g}</text>',
        ]
    (left, low), (right, high) = _place(0, 0), _place(1, 1)
    parts.append(f'<path class="equal" d="M{left:g} {low:g}L{right:g} {high:g}"/>')
    for dot in dots:
        x, y = _place(dot.reported, dot.measured)
        kind = "ours" if dot.full else "hollow"
        parts.append(
            f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="4.5">'
            f"<title>{escape(dot.name)}</title></circle>"
        )
    below = _TOP + _SIDE + 34
    parts += [
        f'<text class="middle" x="{_LEFT + _SIDE / 2:g}" y="{below:g}">reported accuracy;'
        " upwards: measured accuracy; dashed: equal</text>",
        f'<circle class="ours" cx="{_LEFT + 6:g}" cy="{below + 18:g}" r="4.5"/>',
        f'<text x="{_LEFT + 16:g}" y="{below + 22:g}">{escape(full)}</text>',
        f'<circle class="hollow" cx="{_LEFT + 196:g}" cy="{below + 18:g}" r="4.5"/>',
        f'<text x="{_LEFT + 206:g}" y="{below + 22:g}">{escape(hollow)}</text>',
    ]
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="figure" role="img" width="{width:g}"'
        f' height="{height:g}" viewBox="0 0 {width:g} {height:g}">\n'
        f"<title>{escape(f'{title}. {words}')}</title>\n"
        f"<style>\n{colors()}{FIGURE}{_STYLE}</style>\n"
        f'<rect width="100%" height="100%" fill="var(--panel)"/>\n{body}\n</svg>\n'
    )


def _place(reported: float, measured: float) -> tuple[float, float]:
    return _LEFT + reported * _SIDE, _TOP + (1 - measured) * _SIDE
