"""The environment of `make setup` has the versions of requirements.lock. Tests would be skipped for
missing packages in an older one."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

LOCK = Path(__file__).resolve().parents[1] / "requirements.lock"


def _installed(name: str) -> str:
    """The version without the suffix of a build ("+cu130")."""
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return "nothing"


def test_the_packages_of_the_lock_are_installed() -> None:
    if not (Path(sys.prefix) / ".installed").is_file():
        pytest.skip("this environment is not one of make setup")
    lines = [Requirement(line) for line in LOCK.read_text(encoding="utf-8").splitlines()]
    wanted = [one for one in lines if one.marker is None or one.marker.evaluate()]
    assert len(wanted) > 50
    found = {one.name: f"=={_installed(one.name)}" for one in wanted}
    others = {str(one): found[one.name] for one in wanted if str(one.specifier) != found[one.name]}
    assert not others, f"run make setup; instead of these there is: {others}"
