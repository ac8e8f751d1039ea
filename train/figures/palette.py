"""The colors of pages and figures, for light and for dark mode.

In: nothing. Out: names -> colors.
"""

from __future__ import annotations

__all__ = ["PALETTES"]

# Texts have a contrast of 4.5 or more on `ground` and on `panel`; bars and marks have 3 or more.
PALETTES: dict[str, dict[str, str]] = {
    "light": {
        "ground": "#fbfaf7",
        "panel": "#ffffff",
        "ink": "#18242a",
        "muted": "#56626a",
        "line": "#dedad1",
        "accent": "#17647f",
        "ours": "#1f7593",
        "peer": "#98917f",
        "mark": "#c04f2f",
        "third": "#4f7a28",
    },
    "dark": {
        "ground": "#11171a",
        "panel": "#182024",
        "ink": "#e6ebed",
        "muted": "#a5b1b7",
        "line": "#323c42",
        "accent": "#73c3dd",
        "ours": "#4aa8c7",
        "peer": "#878375",
        "mark": "#e8835f",
        "third": "#93c46b",
    },
}
