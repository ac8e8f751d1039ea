"""A cache of its own for each test, and a store."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.object_server import Proxy
from tests.pipelines.mirror import stored


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of all mirrors. Failing requests are repeated for at most half a second."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("SLIPFORM_CACHE", str(folder))
    monkeypatch.delenv("SLIPFORM_CACHE_SIZE", raising=False)
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 JPEGs, 1.5 MB."""
    return stored.photos(tmp_path_factory.mktemp("photos") / "photos")


@pytest.fixture
def url(object_store: Proxy, photos: Path) -> str:
    """`photos` in the store."""
    found = stored.upload(photos, object_store.new_folder())
    object_store.reset()
    return found
