"""The figures of the page: kernels, histograms, curves and others of committed runs.

In: figures/ in the folder of the page, with captions.toml: the name of each file -> what it shows
and the command that drew it. Out: a section of the page.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from slipform.pipelines.errors import ConfigError
from slipform.pipelines.files import open_regular

__all__ = ["CAPTIONS", "figures_section"]

_FOLDER = "figures"
CAPTIONS = "captions.toml"


def figures_section(folder: Path) -> list[str]:
    """The lines of the section; none without figures.

    Args:
        folder: The folder of the page.

    Raises:
        ConfigError: A figure has no caption, or a caption has no figure.
    """
    own = folder / _FOLDER
    if not (own / CAPTIONS).is_file():
        return []
    with open_regular(own / CAPTIONS) as file:
        captions = tomllib.loads(file.read().decode("utf-8"))
    files = {path.name for path in own.iterdir()} - {CAPTIONS}
    if files != set(captions):
        different = ", ".join(sorted(files ^ set(captions)))
        raise ConfigError(f"{own / CAPTIONS}: a caption or its file is missing: {different}")
    lines = [
        "## Figures",
        "",
        "Curves of whole sweeps, with the reported values dashed, are in the tables of the sweeps.",
        "",
    ]
    for name, caption in captions.items():
        link = f"![{caption['shows']}]({_FOLDER}/{name})"
        if not name.endswith((".png", ".svg")):
            link = f"[{name}]({_FOLDER}/{name})"
        lines += [f"{caption['shows']} `{caption['command']}`", "", link, ""]
    return lines
