"""FIFOs in the place of every file that prep reads. Opening one would wait for ever.

A test that waits is ended by the time limit of pytest.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from slipform.pipelines.errors import DatasetError
from slipform.preprocess import archive, idx, pickles
from slipform.preprocess.cli import main
from slipform.preprocess.layouts import class_names, list_tables, synset_lists, text_tables
from slipform.preprocess.layouts.contract import Hints
from slipform.preprocess.layouts.parquet_rows import read_parquet
from slipform.preprocess.layouts.tar_samples import read_tars
from slipform.preprocess.listing import Listing
from slipform.preprocess.registry import discover
from tests.preprocess.sources import jpeg, write


def _parquet(path: Path) -> object:
    pytest.importorskip("pyarrow")
    return read_parquet(path.parent, [path.name], Hints(), lambda name: "")


def _metadata(path: Path) -> object:
    pytest.importorskip("pyarrow")
    return list_tables.columns(path)


READERS: dict[str, Callable[[Path], object]] = {
    "x.csv": lambda path: list(text_tables.read_rows(path)),
    "x.jsonl": text_tables.columns,
    "x.parquet": _parquet,
    "metadata.parquet": _metadata,
    "x.tar": lambda path: read_tars(path.parent, [path.name], Hints(), Listing()),
    "x.tar.gz": lambda path: read_tars(path.parent, [path.name], Hints(), Listing()),
    "x.tar.zst": lambda path: read_tars(path.parent, [path.name], Hints(), Listing()),
    "y.tar": lambda path: archive.unpack(path, path.parent),
    "x.zip": lambda path: archive.unpack(path, path.parent),
    "classes.txt": class_names.read_class_names,
    "words.txt": lambda path: synset_lists.read_lines(path),
    "x-idx3-ubyte": lambda path: idx.read_idx(path, 3),
    "x-idx3-ubyte.gz": lambda path: idx.read_idx(path, 3),
    "data_batch_1": pickles.read_pickle,
}


@pytest.mark.parametrize("name", READERS)
def test_readers(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(DatasetError, match="FIFO"):
        READERS[name](tmp_path / name)


@pytest.mark.parametrize("dataset", [one for one, spec in discover().items() if spec.takes_source])
def test_datasets(tmp_path: Path, dataset: str) -> None:
    """As the source, and in a folder under each name that a reader looks for."""
    fifo = tmp_path / "source"
    os.mkfifo(fifo)
    out = ["--out", str(tmp_path / "out")]
    assert CliRunner().invoke(main, [dataset, "--source", str(fifo), *out]).exit_code == 1
    raw = tmp_path / "raw"
    for k in range(4):
        write(raw / f"{'ab'[k % 2]}/{k}.jpg", jpeg(k))
    names = [
        *READERS, "labels.csv", "train.csv", "x.tgz", "meta.mat", "batches.meta", "meta", "train",
        "test", "train.bin", "test_batch", "t10k-images-idx3-ubyte", "train-images-idx3-ubyte",
        "train.txt", "LOC_val_solution.csv", "LOC_synset_mapping.txt", "x.jpg",
    ]  # fmt: skip
    for name in names:
        os.mkfifo(raw / name)
    result = CliRunner().invoke(main, [dataset, "--source", str(raw), *out])
    assert result.exit_code == (0 if dataset == "images" else 1), result.output
    assert "Traceback" not in result.output
