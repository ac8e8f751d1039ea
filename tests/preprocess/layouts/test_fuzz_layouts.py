"""Damaged and hostile lists, tars, Parquet files: a right result or a clear error."""

from __future__ import annotations

import contextlib
import gzip
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from slipform.pipelines.errors import DatasetError
from slipform.preprocess.layouts.contract import Divided, Hints
from slipform.preprocess.layouts.find_layout import discover
from slipform.preprocess.listing import Listing
from tests.preprocess.layouts.test_imagenet import NAMES, images
from tests.preprocess.layouts.test_parquet import parquet, table
from tests.preprocess.layouts.test_webdataset import samples, tar
from tests.preprocess.mutations import BOUNDED, mutations
from tests.preprocess.sources import jpeg, write

CSV = b"file_name,labels,split\n" + b"".join(
    b"%d.jpg,a;%d,%s\n" % (k, k % 3, (b"train", b"test")[k % 2]) for k in range(8)
)
JSONL = b"".join(
    json.dumps({"file_name": f"{k}.jpg", "label": [k % 3, "b"][k % 2]}).encode() + b"\n"
    for k in range(8)
)
LINES = b"".join(b"ILSVRC2012_val_%08d,n01440764 1 2\n" % (k + 1) for k in range(4))


def check_mutations(data: bytes, name: str, layout: str, around: Callable[[Path], Any]) -> None:
    """Mutations of a file in a source: what is read has labels and bytes, or is a DatasetError."""
    found = discover()[layout]

    @given(mutations(data))
    @BOUNDED
    def check(data: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            around(root)
            write(root / name, data)
            try:
                if not found.find(root, Hints()).words:
                    return
                listing = Listing()
                divided = found.read(root, Hints(), listing)
            except DatasetError as error:
                message = error.message
            else:
                check_samples(divided)
                return
            assert folder in message

    check()


def check_samples(divided: Divided) -> None:
    assert divided.classes
    for part in divided.splits.values():
        assert part.labels.min() >= 0
        assert part.labels.max() < len(divided.classes)
        for index in range(len(part.labels)):
            part.name(index)
            with contextlib.suppress(ValueError):
                assert isinstance(part.read(index), bytes)


def photos(root: Path) -> None:
    for k in range(8):
        write(root / f"{k}.jpg", jpeg(k))


@pytest.mark.parametrize(("data", "name"), [(CSV, "x.csv"), (JSONL, "x.jsonl")])
def test_lists(data: bytes, name: str) -> None:
    check_mutations(data, name, "list", photos)


@pytest.mark.parametrize("ending", ["cls", pytest.param("json", marks=pytest.mark.slow), "txt"])
def test_tars(ending: str) -> None:
    check_mutations(tar(samples(range(3), ending)), "x.tar", "webdataset", lambda root: None)


def test_compressed_tars() -> None:
    data = gzip.compress(tar(samples(range(3))))
    check_mutations(data, "x.tar.gz", "webdataset", lambda root: None)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (LINES, "LOC_val_solution.csv"),
        pytest.param(NAMES.encode(), "words.txt", marks=pytest.mark.slow),
    ],
)
def test_lists_of_imagenet(data: bytes, name: str) -> None:
    def around(root: Path) -> None:
        images(root)
        write(root / "LOC_val_solution.csv", LINES)

    check_mutations(data, name, "imagenet", around)


def test_parquet(tmp_path: Path, needs: Callable[[str], None]) -> None:
    needs("pyarrow")
    feature = {"_type": "ClassLabel", "names": ["a", "b"]}
    made = table(range(6), label=[0, 1, 0, 1, 0, 1]).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": {"label": feature}}})}
    )
    data = parquet(tmp_path / "x.parquet", made).read_bytes()
    check_mutations(data, "x.parquet", "parquet", lambda root: None)
    # The end of a file holds its schema.
    check_mutations(data[-900:], "x.parquet", "parquet", lambda root: None)


def test_metadata_parquet(tmp_path: Path, needs: Callable[[str], None]) -> None:
    needs("pyarrow")
    import pyarrow

    columns = {"file_name": [f"{k}.jpg" for k in range(6)], "label": [k % 2 for k in range(6)]}
    feature = {"_type": "ClassLabel", "names": ["a", "b"]}
    made = pyarrow.table(columns).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": {"label": feature}}})}
    )
    data = parquet(tmp_path / "x.parquet", made).read_bytes()
    check_mutations(data, "metadata.parquet", "list", photos)
