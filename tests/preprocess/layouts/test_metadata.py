"""Hugging Face's imagefolder with metadata.parquet, and other Parquet files that list images."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slipform.pipelines.dataset import open_dataset
from slipform.preprocess.layouts import list_tables
from tests.preprocess.layouts.test_lists import ANIMALS, expected, root
from tests.preprocess.layouts.test_parquet import images, parquet
from tests.preprocess.sources import jpeg, prep, stored, write

__all__ = ["root"]


@pytest.fixture(autouse=True)
def packages(needs: Callable[[str], None]) -> None:
    needs("pyarrow")


def table(**columns: list[Any]) -> Any:
    import pyarrow

    return pyarrow.table(columns)


def animals(numbers: range, **more: list[Any]) -> Any:
    names, labels = [f"{k}.jpg" for k in numbers], [ANIMALS[k % 2] for k in numbers]
    return table(file_name=names, label=labels, **more)


def test_as_their_library_reads_it(
    tmp_path: Path, needs: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("datasets")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    from datasets import Image, load_dataset

    raw = tmp_path / "raw"
    for split, numbers in (("train", range(6)), ("validation", range(6, 8))):
        for k in numbers:
            write(raw / f"{split}/{k}.jpg", jpeg(k))
        parquet(raw / f"{split}/metadata.parquet", animals(numbers))
    theirs = load_dataset("imagefolder", data_dir=str(raw), cache_dir=str(tmp_path / "cache"))
    assert "metadata.parquet (file_name, label)" in prep(raw)
    for split, name in (("train", "train"), ("val", "validation")):
        files = [*theirs[name].cast_column("image", Image(decode=False))]
        own = [(label, data) for _, label, data in stored(raw)[split]]
        assert own == [(row["label"], Path(row["image"]["path"]).read_bytes()) for row in files]


def test_several_labels_and_splits(root: Path) -> None:
    sets = [["a", "b"], ["b"], [], ["c", "a"], None, ["c"]]
    made = table(
        path=[f"images/{k}.jpg" for k in range(6)],
        tags=sets,
        split=["train", "train", "test", "train", "train", "test"],
    )
    parquet(root / "metadata.parquet", made)
    assert "any number for each image" in prep(root)
    manifest = open_dataset(root.parent / "raw-out").manifest
    assert manifest.split("train").label_counts == [2, 2, 1]
    assert manifest.split("test").label_counts == [0, 0, 1]
    assert "images/4.jpg: it has no label" in (root.parent / "raw-out/report.txt").read_text()


@pytest.mark.parametrize("names", [["zebra", "cat", "dog"], ["2", "1", "0"]])
def test_the_names_of_a_class_label(root: Path, names: list[str]) -> None:
    """They keep their order, also those that are numbers; -1 stands for no label."""
    feature = {"_type": "ClassLabel", "names": names}
    made = table(file_name=[f"{k}.jpg" for k in range(6)], label=[0, 1, 2, 0, 1, -1])
    text = json.dumps({"info": {"features": {"label": feature}}})
    parquet(root / "metadata.parquet", made.replace_schema_metadata({"huggingface": text}))
    prep(root)
    assert open_dataset(root.parent / "raw-out").manifest.classes == names
    labels = [label for _, label, _ in stored(root)["train"]]
    assert labels == [names[k] for k in (0, 1, 2, 0, 1)]
    given = write(root.parent / "names.txt", "x\ny\nz\n")
    assert "label -1" in prep(root, "--class-names", str(given), code=1)


def test_other_names_are_lists_only_if_they_are_named(root: Path) -> None:
    parquet(root / "labels.parquet", animals(range(6)))
    assert "columns with images: none" in prep(root, "--layout", "parquet", code=1)
    prep(root, "--list", "labels.parquet")
    assert stored(root) == expected()


def test_metadata_with_the_bytes_of_images_is_no_list(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    parquet(raw / "metadata.parquet", table(image=images(range(4)), label=[0, 1, 0, 1]))
    assert "1 Parquet files" in prep(raw)
    assert [data for _, _, data in stored(raw)["train"]] == [jpeg(k) for k in range(4)]


def test_no_pyarrow(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet(root / "metadata.parquet", animals(range(6)))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "pip install 'slipform[parquet]'" in prep(root, code=1)


@pytest.mark.parametrize("cut", [0, 3, 100, -8])
def test_files_that_are_cut_short(root: Path, cut: int) -> None:
    path = parquet(root / "metadata.parquet", animals(range(6)))
    path.write_bytes(path.read_bytes()[:cut])
    assert "metadata.parquet is damaged" in prep(root, "--list", path.name, code=1)


def test_a_small_file_that_decodes_to_much(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the columns that are needed are decoded."""
    path = parquet(root / "metadata.parquet", animals(range(6), more=["x" * 10_000] * 6), rows=6)
    assert path.stat().st_size < 5_000
    monkeypatch.setattr(list_tables, "_GROUP_BYTES", 1000)
    prep(root)
    assert stored(root) == expected()
    parquet(path, animals(range(6), split=["train" + " " * 10_000] * 6), rows=6)
    assert "a row group of more than 1,000 bytes" in prep(root, "--list", path.name, code=1)


@pytest.mark.parametrize("value", [b"cat", {"a": "x"}, [["a"]], 1.5])
def test_values_that_are_no_labels(root: Path, value: Any) -> None:
    parquet(root / "metadata.parquet", table(file_name=["0.jpg"], label=[value]))
    text = prep(root, "--list", "metadata.parquet", code=1)
    assert "row 1: " in text
