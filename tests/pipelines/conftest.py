"""A dataset folder for tests that damage it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pipelines import folders


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve JPEGs of 30 px and 20 to 31 px."""
    images = [folders.jpeg(folders.smooth(30, 20 + k, seed=k)) for k in range(12)]
    return Path(folders.write_folder(tmp_path / "set", images))
