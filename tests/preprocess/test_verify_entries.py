"""`prep verify` and the entry points of large JPEGs."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from slipform.pipelines.beton import Beton
from slipform.pipelines.decoding.jpeg_entries import EntryPoints
from slipform.pipelines.decoding.jpeg_scan import find_entries
from slipform.pipelines.manifest import Manifest, read_manifest
from slipform.preprocess.build import build_dataset
from slipform.preprocess.source import Generated, SampleSource
from slipform.preprocess.verify import find_faults
from tests.pipelines import folders


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two large JPEGs of the same size, and a small one between them."""
    files = [folders.jpeg(folders.noise(side, 600, side), 50) for side in (600, 90, 600)]
    samples = Generated(files.__getitem__, np.arange(3) % 2, "made")
    build_dataset(SampleSource("made", ["a", "b"], {"train": samples}, ""), tmp_path / "data")
    return tmp_path / "data"


def _put(folder: Path, index: int, entries: EntryPoints) -> Manifest:
    """Write entry points after a JPEG. The SHA-256 of the manifest is that of the new file."""
    path, manifest = folder / "train.beton", read_manifest(folder)
    beton, content = Beton(path), bytearray(path.read_bytes())
    size, at = int(beton.sizes[index]), int(beton.offsets[index] + beton.sizes[index])
    packed = entries.packed(size)
    content[at : at + len(packed)] = packed
    path.write_bytes(content)
    update = {"sha256": hashlib.sha256(content).hexdigest()}
    train = manifest.splits["train"].model_copy(update=update)
    return manifest.model_copy(update={"splits": {"train": train}})


@pytest.mark.parametrize("index", [0, 2])
@pytest.mark.parametrize("field", EntryPoints._fields)
def test_wrong_entry_points_with_a_right_checksum(folder: Path, index: int, field: str) -> None:
    right = find_entries(Beton(folder / "train.beton").bytes_of(index))
    assert right is not None
    assert list(find_faults(folder, _put(folder, index, right))) == []
    values = getattr(right, field).copy()
    values[len(values) // 2] += 1
    (fault,) = find_faults(folder, _put(folder, index, right._replace(**{field: values})))
    assert fault.startswith(f"train sample {index} (class 0, a): ")
    assert fault.endswith("its entry points are wrong")
