"""Tables of the report as HTML.

In: the header and the lines of a table, from slipform.bench.result.tables. Out: HTML. A table that
is too wide scrolls by itself. Screen readers find the headers of each cell.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

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
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in header)
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
    return (
        f'<p class="caption">{escape(caption)}</p>\n'
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption)}">\n'
        f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n"
    )


def _cell(text: str, words: bool) -> str:
    found = _ESTIMATE.fullmatch(text)
    if found:
        median, interval, unit = found.groups()
        return f"<td><b>{median}{unit or ''}</b> <span>({interval})</span></td>"
    return f'<td class="words">{escape(text)}</td>' if words else f"<td>{escape(text)}</td>"
