"""The version and the requirements of Slipform, installed or in a checkout that is on PYTHONPATH.

In: the metadata of the installed package, or pyproject.toml of the checkout. Out: both.
"""

from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

__all__ = ["Project", "project"]


class Project(NamedTuple):
    """What pyproject.toml says.

    Attributes:
        version: Such as "0.2.0".
        requirements: Such as "timm>=1.0; extra == 'timm'".
        checkout: The folder of a checkout that is not installed.
    """

    version: str
    requirements: list[str]
    checkout: Path | None


def project() -> Project:
    """The version and the requirements.

    Raises:
        OSError: The package is neither installed nor in a checkout.
    """
    try:
        found = metadata.distribution("slipform")
        return Project(found.version, found.requires or [], None)
    except metadata.PackageNotFoundError:
        folder = Path(__file__).resolve().parents[1]
    told = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = list(told["dependencies"])
    for extra, names in told["optional-dependencies"].items():
        requirements += [f"{name}; extra == '{extra}'" for name in names]
    return Project(told["version"], requirements, folder)
