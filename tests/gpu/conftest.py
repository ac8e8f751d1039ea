"""`folders`: datasets made on the spot, as the tests of the pipelines make them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def folders() -> ModuleType:
    path = Path(__file__).parents[1] / "pipelines/folders.py"
    spec = importlib.util.spec_from_file_location("slipform_tests_folders", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
