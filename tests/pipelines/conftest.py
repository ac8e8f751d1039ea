"""A fixture for tests that raise at random moments."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture
def no_collections() -> Iterator[None]:
    """Python drops an exception that lands in a callback of its garbage collector. hypothesis has
    one, and pytest makes a failure of what was dropped."""
    gc.disable()
    yield
    gc.enable()
