"""The search for the layout of a source, and its options."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from slipform.preprocess import layouts
from slipform.preprocess.layouts.find_layout import OPTIONS, discover
from tests.preprocess.layouts.test_webdataset import samples, tar
from tests.preprocess.sources import jpeg, prep, stored, write


def test_files_without_an_underscore_are_layouts() -> None:
    names = {path.stem for path in Path(next(iter(layouts.__path__))).glob("*.py")}
    assert {*discover()} == {name for name in names if "_" not in name} - {"contract"}
    for layout in discover().values():
        assert {*layout.options} <= {*OPTIONS}


def folders(root: Path) -> Path:
    for k in range(6):
        write(root / f"{'ab'[k % 2]}/{k}.jpg", jpeg(k))
    return root


@pytest.mark.parametrize("option", OPTIONS.values())
def test_options_without_effect_are_refused(tmp_path: Path, option: str) -> None:
    root = folders(tmp_path / "raw")
    names = write(tmp_path / "names.txt", "a\nb\n")
    value = {"--class-names": str(names), "--unlabeled": "error"}.get(option, "x.csv")
    text = prep(root, "--layout", "classes", option, value, code=1)
    assert f"{option} {value} has no effect" in text
    write(tmp_path / "tars/x.tar", tar(samples(range(4))))
    refused = option in ("--list", "--image-column", "--split-column", "--class-columns")
    if refused:
        text = prep(tmp_path / "tars", "--layout", "webdataset", option, value, code=1)
        assert f"{option} {value} has no effect" in text


def test_the_key_of_json_without_json(tmp_path: Path) -> None:
    write(tmp_path / "raw/x.tar", tar(samples(range(4))))
    text = prep(tmp_path / "raw", "--label-column", "kind", code=1)
    assert "--label-column kind has no effect" in text


def test_one_column_with_two_meanings(tmp_path: Path) -> None:
    root = folders(tmp_path / "raw")
    write(root / "l.csv", "file,label\n" + "".join(f"{k}.jpg,{k % 2}\n" for k in range(6)))
    both = ("--label-column", "label", "--split-column", "label")
    assert "two meanings" in prep(root, "--list", "l.csv", *both, code=1)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a,b\n1,2\n", "has the columns a, b"),
        ("file,file,label\n", "two columns have the same name"),
        ("file,label\nx.jpg,1\n", "name no image of the source"),
        (b"\xff\xfe", "is not UTF-8"),
    ],
)
def test_a_table_that_is_no_list_is_noted(tmp_path: Path, content: str | bytes, words: str) -> None:
    root = folders(tmp_path / "raw")
    write(root / "labels.csv", content)
    text = prep(root)
    assert words in text
    assert "note: " in text
    assert len(stored(root)["train"]) == 6
    images = tmp_path / "one"
    for k in range(6):
        write(images / f"images/{k}.jpg", jpeg(k))
    write(images / "labels.csv", content)
    assert words in prep(images, code=1)  # its only folder is no class


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("l.csv", "file,label\n0.jpg,a\n1.jpg\n", "l.csv, row 2: 1 values for 2 columns"),
        ("l.jsonl", '{"file": "0.jpg", "label": 1}\n[\n', "l.jsonl, row 2"),
    ],
)
def test_a_list_that_breaks_off_does_not_make_classes_of_folders(
    tmp_path: Path, name: str, content: str, words: str
) -> None:
    root = folders(tmp_path / "raw")
    write(root / name, content)
    assert words in prep(root, code=1)


def test_a_damaged_tar_beside_folders_is_noted(tmp_path: Path) -> None:
    root = folders(tmp_path / "raw")
    write(root / "x.tar", tar(samples(range(4)))[:1500])
    assert "x.tar is damaged" in prep(root)


def test_files_around_the_folder_are_named(tmp_path: Path) -> None:
    inner = tmp_path / "raw/photos"
    write(inner / "l.csv", "file,label\n" + "".join(f"{k}.jpg,{k % 2}\n" for k in range(6)))
    folders(inner / "images")
    write(tmp_path / "raw/readme.txt", "hello")
    write(tmp_path / "raw/__MACOSX/x", "hello")
    prep(tmp_path / "raw", "--layout", "list")
    report = (tmp_path / "raw-out/report.txt").read_text()
    assert "readme.txt: beside the folder of the images" in report
    assert "__MACOSX/: beside the folder of the images" in report


@pytest.mark.parametrize("name", ["x.parquet", "x.tar", "x.csv", "train.csv"])
def test_a_folder_with_the_name_of_a_file(tmp_path: Path, name: str) -> None:
    root = folders(tmp_path / "raw")
    write(root / name / "7.jpg", jpeg(7))
    prep(root)
    assert {label for _, label, _ in stored(root)["train"]} == {"a", "b", name}


def test_the_option_decides_whether_a_file_is_unpacked(tmp_path: Path) -> None:
    members = {f"{'ab'[k % 2]}/{k}.{end}": jpeg(k) for k in range(6) for end in ("jpg", "cls")}
    path = write(tmp_path / "x.tar", tar({**members}))
    prep(path, "--layout", "classes")
    assert {name for name, _, _ in stored(path)["train"]} == {
        f"{'ab'[k % 2]}/{k}.jpg" for k in range(6)
    }
    write(tmp_path / "l.csv", "file,label\na/0.jpg,x\nb/1.jpg,y\n")  # beside the archive
    assert "holds no list of images" in prep(path, "--list", "l.csv", code=1)


@pytest.mark.parametrize("name", ["../raw/l.csv", "x/../l.csv"])
def test_a_list_outside_the_source_is_refused(tmp_path: Path, name: str) -> None:
    root = folders(tmp_path / "raw")
    os.mkdir(root / "x")
    write(root / "l.csv", "file,label\na/0.jpg,x\nb/1.jpg,y\n")
    assert "holds no list of images" in prep(root, "--list", name, code=1)
    prep(root, "--list", str(root / "l.csv"))
