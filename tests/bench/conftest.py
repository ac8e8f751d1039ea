"""A recipe for the tests of `bench ab`."""

from __future__ import annotations

from pathlib import Path

import pytest

RECIPE = """
description = "small"
[augment]
image_size = 24
resize = 28
[model]
name = "tiny"
[train]
epochs = 1
batch_size = 40
precision = "fp32"
[data]
executor = "host"
threads = 1
"""


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    """The path of a recipe with a tiny net and six steps in an epoch."""
    (tmp_path / "small.toml").write_text(RECIPE)
    return str(tmp_path / "small.toml")
