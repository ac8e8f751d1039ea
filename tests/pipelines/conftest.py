"""What the tests of the pipelines share: `reference` (the Plan in plain float64), `folders`
(datasets made on the spot)."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, settings

# The same examples every time: a failure must be one that anybody can repeat. Compiling kernels is
# slow, so no deadline.
settings.register_profile(
    "slipform",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("slipform")


def _beside(name: str) -> ModuleType:
    """A module beside this one; tests are no package."""
    full = f"slipform_tests_{name}"
    if full not in sys.modules:
        spec = importlib.util.spec_from_file_location(full, Path(__file__).with_name(f"{name}.py"))
        assert spec
        assert spec.loader
        sys.modules[full] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[full]


@pytest.fixture(scope="session")
def reference() -> ModuleType:
    return _beside("reference")


@pytest.fixture(scope="session")
def folders() -> ModuleType:
    return _beside("folders")
