"""Parquet files with the bytes of images, written by the library datasets and by pyarrow."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slipform.pipelines.dataset import open_dataset
from slipform.preprocess.layouts import parquet_rows
from tests.preprocess.sources import jpeg, prep, stored, write

NAMES = ["zebra", "cat", "dog"]  # not in the order of the alphabet


@pytest.fixture(autouse=True)
def packages(needs: Callable[[str], None]) -> None:
    needs("pyarrow")


def images(numbers: range) -> list[dict[str, Any]]:
    return [{"bytes": jpeg(k), "path": f"{k}.jpg"} for k in numbers]


def table(numbers: range, **columns: list[Any]) -> Any:
    import pyarrow

    return pyarrow.table({"image": images(numbers), **columns})


def parquet(path: Path, content: Any, rows: int = 3) -> Path:
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(content, path, row_group_size=rows)
    return path


def test_what_the_library_datasets_writes(tmp_path: Path, needs: Callable[[str], None]) -> None:
    needs("datasets")
    from datasets import ClassLabel, Dataset, Features, Image

    raw = tmp_path / "raw"
    (raw / "data").mkdir(parents=True)
    features = Features({"image": Image(), "label": ClassLabel(names=NAMES)})
    parts = {"train-00000-of-00002": range(4), "train-00001-of-00002": range(4, 7)}
    for name, numbers in (parts | {"test-00000-of-00001": range(7, 10)}).items():
        columns = {"image": images(numbers), "label": [k % 3 for k in numbers]}
        made = Dataset.from_dict(columns, features=features)
        made.to_parquet(raw / f"data/{name}.parquet", batch_size=2)
    write(raw / "README.md", "a card")
    assert "3 Parquet files" in prep(raw)
    found = stored(raw)
    for split, numbers in (("train", range(7)), ("test", range(7, 10))):
        assert [(name, data) for _, name, data in found[split]] == [
            (NAMES[k % 3], jpeg(k)) for k in numbers
        ]
    assert open_dataset(tmp_path / "raw-out").manifest.classes == NAMES
    assert found["train"][5][0] == "data/train-00001-of-00002.parquet:1 5.jpg"
    assert "README.md: file beside" in (tmp_path / "raw-out/report.txt").read_text()


def test_several_labels_of_the_library_datasets(
    tmp_path: Path, needs: Callable[[str], None]
) -> None:
    needs("datasets")
    from datasets import ClassLabel, Dataset, Features, Image, Sequence

    sets = [[0, 2], [], [1]]
    features = Features({"image": Image(), "tags": Sequence(ClassLabel(names=NAMES))})
    (tmp_path / "raw").mkdir()
    made = Dataset.from_dict({"image": images(range(3)), "tags": sets}, features=features)
    made.to_parquet(tmp_path / "raw/0.parquet")
    prep(tmp_path / "raw")
    manifest = open_dataset(tmp_path / "raw-out").manifest
    assert (manifest.labels, manifest.classes) == ("multi", NAMES)
    assert manifest.splits["train"].label_counts == [1, 1, 1]


def test_bytes_alone_and_a_column_of_splits(tmp_path: Path) -> None:
    import pyarrow

    columns = {
        "picture": [jpeg(k) for k in range(6)],
        "label": ["a", "b", "a", "b", "a", None],
        "split": ["train"] * 4 + ["valid"] * 2,
    }
    parquet(tmp_path / "raw/all.parquet", pyarrow.table(columns))
    prep(tmp_path / "raw")
    found = stored(tmp_path / "raw")
    assert found["train"] == [(f"all.parquet:{k}", "ab"[k % 2], jpeg(k)) for k in range(4)]
    assert found["val"] == [("all.parquet:4", "a", jpeg(4))]
    assert "all.parquet:5: it has no label" in (tmp_path / "raw-out/report.txt").read_text()


def test_one_file_is_a_source(tmp_path: Path) -> None:
    path = parquet(tmp_path / "test-0.parquet", table(range(4), label=[0, 1, 0, 1]))
    prep(path)
    assert [data for _, _, data in stored(path)["train"]] == [jpeg(k) for k in range(4)]


def test_columns_that_could_be_meant(tmp_path: Path) -> None:
    import json

    feature = {"_type": "ClassLabel", "names": ["a", "b"]}
    features = {"fine": feature, "coarse": feature, "image": {"_type": "Image"}}
    two = table(range(2), fine=[0, 1], coarse=[1, -1])
    two = two.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    raw = parquet(tmp_path / "raw/x.parquet", two).parent
    assert "columns with labels: fine, coarse. Name one: --label-column" in prep(raw, code=1)
    assert 'Did you mean "fine"' in prep(raw, "--label-column", "fin", code=1)
    prep(raw, "--label-column", "coarse")
    assert [name for _, name, _ in stored(raw)["train"]] == ["b"]  # -1 stands for no label
    parquet(raw / "y.parquet", table(range(2), fine=[0, 1]))
    assert "other columns or classes" in prep(raw, "--label-column", "fine", code=1)


def test_rows_without_an_image(tmp_path: Path) -> None:
    import pyarrow

    rows = [{"bytes": data, "path": "/etc/passwd"} for data in (jpeg(0), None, b"text")]
    raw = parquet(tmp_path / "raw/x.parquet", pyarrow.table({"image": rows, "label": [0, 1, 1]}))
    prep(raw.parent, "--on-bad", "skip")
    assert len(stored(raw.parent)["train"]) == 1
    assert "the row holds no bytes" in (tmp_path / "raw-out/rejected.csv").read_text()


def test_threads_and_a_small_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every thread gets its own image, whatever the others have pushed out of the cache."""
    from slipform.preprocess.layouts.contract import Hints

    monkeypatch.setattr(parquet_rows, "_CACHE_BYTES", 1)
    parquet(tmp_path / "x.parquet", table(range(60), label=[k % 3 for k in range(60)]))
    store = parquet_rows.read_parquet(tmp_path, ["x.parquet"], Hints(), lambda path: "").store
    wrong: list[int] = []

    def read(first: int) -> None:
        wrong.extend(k for k in range(first, 60, 4) if store.read(k) != jpeg(k))

    threads = [threading.Thread(target=read, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(store.cache) == 2  # type: ignore[attr-defined]


def test_a_copy_in_another_process_reads_the_same(tmp_path: Path) -> None:
    """Of a store that has read already. The copy has a cache of its own."""
    from slipform.preprocess.layouts.contract import Hints

    parquet(tmp_path / "x.parquet", table(range(9), label=[k % 3 for k in range(9)]))
    store = parquet_rows.read_parquet(tmp_path, ["x.parquet"], Hints(), lambda path: "").store
    first = store.read(4)
    copy = pickle.loads(pickle.dumps(store))
    assert copy.read(4) == first == jpeg(4)
    assert copy.name(8) == store.name(8)


def test_huge_row_groups_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_rows, "_GROUP_BYTES", 100)
    raw = parquet(tmp_path / "raw/x.parquet", table(range(4), label=[0, 1, 0, 1])).parent
    assert "smaller row groups" in prep(raw, code=1)


def test_no_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    raw = parquet(tmp_path / "raw/x.parquet", table(range(2), label=[0, 1])).parent
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "pip install 'slipform[parquet]'" in prep(raw, code=1)


@pytest.mark.parametrize("cut", [0, 3, 100, -8])
def test_files_that_are_cut_short(tmp_path: Path, cut: int) -> None:
    path = parquet(tmp_path / "raw/x.parquet", table(range(2), label=[0, 1]))
    path.write_bytes(path.read_bytes()[:cut])
    assert "x.parquet is damaged" in prep(path.parent, code=1)


def test_a_small_row_group_that_decodes_to_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parquet stores a repeated value once."""
    import pyarrow

    made = pyarrow.table({"image": [b"\xff\xd8\xff" * 1000] * 400, "label": [0, 1] * 200})
    path = parquet(tmp_path / "raw/x.parquet", made, rows=400)
    assert path.stat().st_size < 20_000
    monkeypatch.setattr(parquet_rows, "_GROUP_BYTES", 100_000)
    text = prep(path.parent, code=1)
    assert "400 samples cannot be used" in text
    assert "has a row group of more than 100,000 bytes" in text
    monkeypatch.setattr(parquet_rows, "_LABEL_BYTES", 100)
    assert "has a row group of more than 100 bytes" in prep(path.parent, code=1)


def test_names_with_dots(tmp_path: Path) -> None:
    import pyarrow

    columns = {"a.b": images(range(4)), "a": [{"b": 1}] * 4, "the.label": [0, 1, 0, 1]}
    raw = parquet(tmp_path / "raw/x.parquet", pyarrow.table(columns)).parent
    prep(raw, "--label-column", "the.label")
    assert [(label, data) for _, label, data in stored(raw)["train"]] == [
        (str(k % 2), jpeg(k)) for k in range(4)
    ]


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    import pyarrow

    column = pyarrow.array([1, 2])
    two = pyarrow.Table.from_arrays(
        [pyarrow.array(images(range(2))), column, column], ["image", "label", "label"]
    )
    raw = parquet(tmp_path / "raw/x.parquet", two).parent
    assert "two columns have the same name" in prep(raw, code=1)


@pytest.mark.parametrize("depth", [2, 5000])
def test_labels_in_lists_in_lists(tmp_path: Path, depth: int) -> None:
    import json

    import pyarrow

    feature: Any = {"_type": "ClassLabel", "names": ["a", "b"]}
    text = '{"info": {"features": {"label": ' + "[" * depth + json.dumps(feature)
    text += "]" * depth + "}}}"
    made = pyarrow.table({"image": images(range(2)), "label": [[[0]], [[1]]]})
    raw = parquet(
        tmp_path / "raw/x.parquet", made.replace_schema_metadata({"huggingface": text})
    ).parent
    assert "x.parquet" in prep(raw, code=1)


def test_parts_without_rows(tmp_path: Path) -> None:
    raw = parquet(tmp_path / "raw/train-0.parquet", table(range(4), label=[0, 1, 0, 1])).parent
    parquet(raw / "test-0.parquet", table(range(4), label=[0, 1, 0, 1]).slice(0, 0))
    prep(raw, "--dry-run")
    prep(raw)
    assert {*stored(raw)} == {"train"}
    parquet(raw / "train-0.parquet", table(range(4), label=[0, 1, 0, 1]).slice(0, 0))
    assert "no image can be used" in prep(raw, code=1)


def test_classes_with_numbers_as_names(tmp_path: Path) -> None:
    """A ClassLabel counts from 0, also if its names are numbers."""
    import json

    feature = {"_type": "ClassLabel", "names": ["1", "2", "3"]}
    made = table(range(4), label=[0, 1, 2, 0]).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": {"label": feature}}})}
    )
    raw = parquet(tmp_path / "raw/x.parquet", made).parent
    prep(raw)
    assert [label for _, label, _ in stored(raw)["train"]] == ["1", "2", "3", "1"]
    names = write(tmp_path / "names.txt", "x\ny\nz\n")
    prep(raw, "--class-names", str(names))
    assert [label for _, label, _ in stored(raw)["train"]] == ["x", "y", "z", "x"]


def test_the_separator_and_the_warning(tmp_path: Path) -> None:
    parquet(tmp_path / "raw/x.parquet", table(range(3), kind=["a|b", "a", "b"]))
    chosen = ("--label-column", "kind")
    assert "--label-separator '|'" in prep(tmp_path / "raw", *chosen)
    prep(tmp_path / "raw", *chosen, "--label-separator", "|")
    manifest = open_dataset(tmp_path / "raw-out").manifest
    assert (manifest.labels, manifest.classes) == ("multi", ["a", "b"])
    assert manifest.splits["train"].label_counts == [2, 2]
