"""A page as one HTML file: `document`, and the tables and numbers in it.

In: parts as HTML. Out: a page that fetches nothing and runs no script, for screens in light and
dark mode, for phones and for paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from slipform.train.page.style import PAGE, colors

__all__ = ["Section", "document", "framed", "numbers", "table"]

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{headline} {name}</title>
<style>
{style}</style>
</head>
<body>
<header>
<p class="name">{name}</p>
<h1>{headline}</h1>
{header}
<nav aria-label="Parts of this page">{links}</nav>
</header>
<main>
{sections}</main>
<footer><p>{footer}</p></footer>
</body>
</html>
"""


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        id: The anchor of the part.
        title: The heading, plain text.
        content: HTML.
    """

    id: str
    title: str
    content: str


def document(
    *,
    name: str,
    headline: str,
    header: str,
    sections: Sequence[Section],
    footer: str,
    style: str = "",
) -> str:
    """Make a page.

    Args:
        name: What kind of page it is, HTML.
        headline: The most important sentence, HTML.
        header: HTML below the headline.
        sections: The parts of the page, in order.
        footer: HTML of the last paragraph.
        style: CSS beyond that of every page.
    """
    links = "\n".join(f'<a href="#{one.id}">{escape(one.title)}</a>' for one in sections)
    parts = "".join(
        f'<section id="{one.id}"><h2>{escape(one.title)}</h2>\n{one.content}</section>\n'
        for one in sections
    )
    return _PAGE.format(
        name=name, headline=headline, header=header, links=links, sections=parts, footer=footer,
        style=colors() + PAGE + style,
    )  # fmt: skip


def numbers(found: Sequence[tuple[str, str, str]]) -> str:
    """Large numbers beside each other.

    Args:
        found: For each: the number, what it is, and a remark such as its interval; plain text.
    """
    parts = "".join(
        f"<div><dt>{escape(what)}{f'<br>{escape(remark)}' if remark else ''}</dt>"
        f"<dd>{escape(value)}</dd></div>\n"
        for value, what, remark in found
    )
    return f'<dl class="numbers">\n{parts}</dl>\n'


def table(header: Sequence[str], lines: Sequence[Sequence[str]], caption: str) -> str:
    """A table whose first column names the lines.

    Args:
        header: The headings, plain text.
        lines: The cells of each line, plain text, as many as headings.
        caption: The caption above the table.
    """
    body = "".join(
        f'<tr><th scope="row">{escape(line[0])}</th>'
        + "".join(f"<td>{escape(text)}</td>" for text in line[1:])
        + "</tr>\n"
        for line in lines
    )
    return framed(header, body, caption)


def framed(header: Sequence[str], body: str, caption: str) -> str:
    """A table from its lines. A table that is too wide scrolls by itself.

    Args:
        header: The headings, plain text.
        body: The lines as HTML, each with as many cells as headings.
        caption: The caption above the table.
    """
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in header)
    return (
        f'<p class="caption">{escape(caption)}</p>\n'
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption)}">\n'
        f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n"
    )
