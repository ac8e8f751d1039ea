"""The styles of a page, and its colors for light mode, dark mode and paper.

In: nothing. Out: CSS.
"""

from __future__ import annotations

from slipform.train.figures.palette import PALETTES

__all__ = ["PAGE", "colors"]

PAGE = """\
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; overflow-wrap: anywhere; }
main, header, footer { max-width: 76rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 2.75rem; }
.name { color: var(--accent); font-weight: 600; margin: 0 0 .5rem; }
h1 { font-size: clamp(1.6rem, 4.2vw, 2.6rem); line-height: 1.15; letter-spacing: -.015em;
  margin: 0 0 1rem; max-width: 22em; text-wrap: balance; }
h2 { font-size: 1.5rem; line-height: 1.2; margin: 3.25rem 0 .75rem; padding-top: 1.25rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1.1rem; line-height: 1.3; margin: 2.25rem 0 .35rem; }
p { margin: .5rem 0; max-width: 46rem; }
header ul { padding-left: 1.1rem; margin: .5rem 0; max-width: 46rem; }
a { color: var(--accent); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
nav { margin: 1.25rem 0 0; }
nav a { margin-right: 1.25rem; }
.muted, .stamp { color: var(--muted); }
.stamp { font-size: .875rem; margin-bottom: 1rem; }
.numbers { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 15rem), 1fr));
  gap: 1rem; margin: 1.75rem 0; padding: 0; }
.numbers div { background: var(--panel); border: 1px solid var(--line); border-radius: 10px;
  padding: 1rem 1.25rem 1.1rem; display: flex; flex-direction: column-reverse;
  justify-content: flex-end; }
.numbers dd { font-size: 2.5rem; line-height: 1.1; font-weight: 650; letter-spacing: -.02em;
  margin: 0 0 .35rem; color: var(--accent); font-variant-numeric: tabular-nums; }
.numbers dt { font-size: .9rem; line-height: 1.45; color: var(--muted); }
figure { margin: 1rem 0 1.5rem; }
figcaption { color: var(--muted); font-size: .875rem; margin-bottom: .75rem; max-width: 46rem; }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr));
  gap: 1rem; align-items: start; }
.panels svg { width: 100%; height: auto; display: block; background: var(--panel);
  border: 1px solid var(--line); border-radius: 10px; padding: .8rem .9rem; }
.scroll { overflow-x: auto; margin: .25rem 0 1.5rem; }
table { border-collapse: collapse; font-size: .8125rem; line-height: 1.4; width: 100%;
  overflow-wrap: normal; }
.caption { font-weight: 600; font-size: .875rem; margin: 1.25rem 0 0; max-width: none; }
th, td { padding: .4rem .75rem .4rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
thead th { color: var(--muted); font-weight: 600; vertical-align: bottom; }
tbody th { font-weight: 600; white-space: nowrap; }
td { font-variant-numeric: tabular-nums; }
td b { font-weight: 600; white-space: nowrap; }
td span { color: var(--muted); white-space: nowrap; }
td.words { color: var(--muted); min-width: 15rem; }
dl.facts { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.25rem;
  font-size: .9rem; margin: .5rem 0 1.5rem; }
dl.facts dt { color: var(--muted); }
dl.facts dd { margin: 0; }
code { font: .92em ui-monospace, "SFMono-Regular", Menlo, Consolas, monospace; }
footer { color: var(--muted); font-size: .875rem; padding-top: 2rem; padding-bottom: 3rem; }
@media (max-width: 36rem) {
  body { font-size: 15px; }
  header { padding-top: 1.75rem; }
  dl.facts { grid-template-columns: 1fr; }
  dl.facts dd { margin-bottom: .5rem; }
}
@page { size: A4; margin: 14mm 12mm; }
@media print {
  html { font-size: 11.5px; }
  body { font-size: 1rem; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  main, header, footer { max-width: none; padding: 0; }
  nav { display: none; }
  h2, h3, .caption, figcaption { break-after: avoid; }
  .panels svg, .numbers div, tr, dl.facts, figcaption { break-inside: avoid; }
  .numbers { grid-template-columns: repeat(3, 1fr); }
  .panels { grid-template-columns: 1fr 1fr; gap: .6rem; }
  .scroll { overflow: visible; }
  table { font-size: 7pt; }
  th, td { padding: .2rem .4rem .2rem 0; }
  tbody th, td span, td b { white-space: normal; }
  td.words { min-width: 0; }
}
"""


def colors() -> str:
    """CSS variables for the colors: light or dark, as the reader's system asks; light on paper."""
    light, dark = (
        "".join(f" --{name}: {color};" for name, color in PALETTES[kind].items())
        for kind in ("light", "dark")
    )
    return (
        f":root {{ color-scheme: light dark;{light} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{{dark} }} }}\n"
        f"@media print {{ :root {{ color-scheme: light;{light} --ground: #ffffff; }} }}\n"
    )
