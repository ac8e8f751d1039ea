"""The tables of a beton in an object store are read without its images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from slipform.pipelines.beton import Beton
from slipform.pipelines.errors import DatasetError
from slipform.pipelines.manifest import BetonInfo, read_manifest
from slipform.pipelines.mirror.copy_index import copy_index
from slipform.pipelines.remote.store import open_store
from tests.object_server import Proxy


def test_the_tables_are_those_of_the_beton(
    shapes: Path, object_store: Proxy, tmp_path: Path
) -> None:
    store, info = open_store(object_store.new_folder()), read_manifest(shapes).split("train")
    store.put_file(info.file, shapes / info.file)
    object_store.reset()
    copy_index(store, info, tmp_path / "copy.beton")
    whole, copy = Beton(shapes / info.file), Beton(tmp_path / "copy.beton")
    for name in ("labels", "modes", "heights", "widths", "offsets", "sizes"):
        assert np.array_equal(getattr(copy, name), getattr(whole, name)), name
    assert len(object_store.requests) == 2
    assert object_store.num_bytes < info.bytes / 2
    assert copy.data.size == info.bytes


@pytest.mark.parametrize("content", [b"short", bytes(3000), b"\xff" * 200_000])
def test_what_is_no_beton_is_found_when_it_is_opened(
    object_store: Proxy, tmp_path: Path, content: bytes
) -> None:
    store = open_store(object_store.new_folder())
    store.put("a", content)
    info = BetonInfo(file="a", num_samples=1 << 40, bytes=len(content), sha256="")
    copy_index(store, info, tmp_path / "a")
    with pytest.raises(DatasetError):
        Beton(tmp_path / "a")
