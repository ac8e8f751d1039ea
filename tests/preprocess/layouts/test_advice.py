"""Options with mistakes: the error names the nearest right word, and its advice works."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.preprocess.layouts.test_webdataset import tar
from tests.preprocess.sources import jpeg, prep, write


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """Images in one folder, and a list with a column "path" and a column "kind"."""
    root = tmp_path / "raw"
    for k in range(20):
        write(root / f"images/{k}.jpg", jpeg(k))
    rows = [f"images/{k}.jpg,{'ab'[k % 2]}" for k in range(20)]
    write(root / "l.csv", "\n".join(["path,kind", *rows]))
    return root


def test_a_label_column_with_a_typing_mistake(listed: Path) -> None:
    for more in ((), ("--list", "l.csv")):
        said = prep(listed, "--label-column", "knid", *more, code=1)
        assert 'no column "knid" in ' in said
        assert '/l.csv. Did you mean "kind"?' in said
    prep(listed, "--label-column", "kind")


def test_a_column_that_is_missing_is_the_only_one_to_be_named(listed: Path) -> None:
    said = prep(listed, code=1)
    assert "Name that of the labels: --label-column COLUMN" in said
    assert "--image-column" not in said
    text = (listed / "l.csv").read_text()
    write(listed / "l.csv", text.replace("path,kind", "where,label"))
    assert "Name that of the images: --image-column COLUMN" in prep(listed, code=1)
    prep(listed, "--image-column", "where")
    write(listed / "l.csv", text.replace("path,kind", "where,kind"))
    assert "Name those of the images and labels" in prep(listed, "--list", "l.csv", code=1)


def test_a_list_without_names_of_columns(listed: Path) -> None:
    lines = (listed / "l.csv").read_text().splitlines()
    write(listed / "l.csv", "\n".join(lines[1:]))
    for more in ((), ("--list", "l.csv")):
        assert "write a first line with names, such as path,label." in prep(listed, *more, code=1)
    write(listed / "l.csv", "\n".join(["path,label", *lines[1:]]))
    prep(listed)


def test_lists_in_folders_of_splits(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    for split in ("train", "validation"):
        rows = [{"file_name": f"{k}.jpg", "text": "ab"[k % 2]} for k in range(10)]
        write(root / split / "metadata.jsonl", "\n".join(map(json.dumps, rows)))
        for k in range(10):
            write(root / split / f"{k}.jpg", jpeg(k))
    said = prep(root, code=1)
    assert "Name that of the labels: --label-column COLUMN" in said
    assert "--list" not in said
    named = ("--list", "metadata.jsonl", "--label-column", "text")
    assert 'Did you mean "train/metadata.jsonl"?' in prep(root, *named, code=1)
    prep(root, "--label-column", "text")


def test_a_key_of_json_in_a_tar(tmp_path: Path) -> None:
    members: dict[str, bytes | str] = {}
    for k in range(10):
        members[f"{k}.jpg"] = jpeg(k)
        members[f"{k}.json"] = json.dumps({"kind": "ab"[k % 2], "width": 8})
    write(tmp_path / "raw/x.tar", tar(members))
    said = prep(tmp_path / "raw", "--label-column", "knid", code=1)
    assert 'no key "knid" in the .json files of ' in said
    assert 'Did you mean "kind"? Allowed: kind, width.' in said
    said = prep(tmp_path / "raw", code=1)
    assert "Their keys: kind, width. Name one: --label-column KEY" in said
    prep(tmp_path / "raw", "--label-column", "kind")


def test_a_layout_that_does_not_fit(listed: Path) -> None:
    said = prep(listed, "--layout", "parquet", code=1)
    assert "holds no Parquet files" in said
    assert "Without --layout, prep finds the layout." in said
