"""Tables of the report as HTML.

In: the header and the lines of a table, from slipform.bench.result.tables. Out: HTML. A table that
is too wide scrolls by itself. Screen readers find the headers of each cell.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from slipform.train.page.document import framed

__all__ = ["html_table"]

_ESTIMATE = re.compile(r"([\d,.]+) \(([\d,.]+ to [\d,.]+)\)( \S+)?")
_NAMING = ("loader", "model", "way")  # columns that identify a line


def html_table(header: Sequence[str], lines: Sequence[Sequence[str]], caption: str) -> str:
    """Make an HTML table.

    Args:
        header: The headings.
        lines: The cells of each line, as many as headings. "2,451 (2,400 to 2,480)" is shown as a
            median and its interval.
        caption: The caption above the table.
    """
    name = next((number for number, text in enumerate(header) if text in _NAMING), None)
    last = len(header) - 1
    body = "".join(
        "<tr>"
        + "".join(
            f'<th scope="row">{escape(text)}</th>'
            if number == name
            else _cell(text, words=number == last)
            for number, text in enumerate(line)
        )
        + "</tr>\n"
        for line in lines
    )
    return framed(header, body, caption)


def _cell(text: str, words: bool) -> str:
    found = _ESTIMATE.fullmatch(text)
    if found:
        median, interval, unit = found.groups()
        return f"<td><b>{median}{unit or ''}</b> <span>({interval})</span></td>"
    return f'<td class="words">{escape(text)}</td>' if words else f"<td>{escape(text)}</td>"
