"""Lists of images: CSV, TSV, JSONL, and Hugging Face's imagefolder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from slipform.pipelines.dataset import open_dataset
from tests.preprocess.sources import jpeg, prep, stored, write

ANIMALS = ("cat", "dog")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """images/0.jpg to images/5.jpg."""
    for k in range(6):
        write(tmp_path / f"raw/images/{k}.jpg", jpeg(k))
    return tmp_path / "raw"


def expected(splits: str = "train") -> dict[str, list[tuple[str, str, bytes]]]:
    """Images 0 to 5, cats and dogs in turn, over the splits in turn."""
    names = splits.split()
    return {
        split: [
            (f"images/{k}.jpg", ANIMALS[k % 2], jpeg(k))
            for k in range(6)
            if names[k % len(names)] == split
        ]
        for split in names
    }


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("entry", ["images/{}.jpg", "{}.jpg", "{}", "/home/x/raw/images/{}.jpg"])
def test_paths_and_separators(root: Path, separator: str, entry: str) -> None:
    lines = [separator.join(("File Name", "extra", "Label"))]
    lines += [separator.join((entry.format(k), "x", ANIMALS[k % 2])) for k in range(6)]
    write(root / f"labels.{'tsv' if separator == chr(9) else 'csv'}", "\n".join(lines))
    assert "list of images: labels." in prep(root)
    assert stored(root) == expected()


def test_excel_and_quotes(root: Path) -> None:
    """A mark at the beginning, lines that end as Windows does, quotes around a separator."""
    lines = ["\ufefffilename,class", *(f'{k}.jpg,"{ANIMALS[k % 2]}, tame"' for k in range(6))]
    write(root / "labels.csv", "\r\n".join(lines) + "\r\n")
    prep(root)
    assert {name for _, name, _ in stored(root)["train"]} == {"cat, tame", "dog, tame"}
    lines = [
        'file;label;"size, in px, and color"',
        *(f"{k}.jpg;{ANIMALS[k % 2]};9" for k in range(6)),
    ]
    write(root / "labels.csv", "\n".join(lines))
    prep(root)
    assert stored(root) == expected()


def test_jsonl_and_a_column_of_splits(root: Path) -> None:
    words = ("train", "Validation", "testing")
    rows = (
        {"image": f"images/{k}.jpg", "label": ANIMALS[k % 2], "split": words[k % 3]}
        for k in range(6)
    )
    write(root / "all.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    prep(root)
    assert stored(root) == expected("train val test")


def test_a_list_for_each_split(root: Path) -> None:
    for number, split in enumerate(("train", "test")):
        rows = (f"{k},{ANIMALS[k % 2]}\n" for k in range(number, 6, 2))
        write(root / f"{split}.csv", "id,target\n" + "".join(rows))
    prep(root)
    assert stored(root) == expected("train test")


def test_hugging_faces_imagefolder_by_hand(tmp_path: Path) -> None:
    for split, ending in (("train", "jsonl"), ("test", "csv")):
        for k in range(4):
            write(tmp_path / f"raw/{split}/{k}.jpg", jpeg(k))
        text = "file_name,label\n" + "".join(f"{k}.jpg,{ANIMALS[k % 2]}\n" for k in range(4))
        if ending == "jsonl":
            rows = ({"file_name": f"{k}.jpg", "label": ANIMALS[k % 2]} for k in range(4))
            text = "".join(json.dumps(row) + "\n" for row in rows)
        write(tmp_path / f"raw/{split}/metadata.{ending}", text)
    prep(tmp_path / "raw")
    found = stored(tmp_path / "raw")
    for split in ("train", "test"):
        assert found[split] == [(f"{split}/{k}.jpg", ANIMALS[k % 2], jpeg(k)) for k in range(4)]


def test_hugging_faces_imagefolder_as_their_library_reads_it(
    tmp_path: Path, needs: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("datasets")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    from datasets import Image, load_dataset

    raw = tmp_path / "raw"
    for split, numbers in (("train", range(6)), ("validation", range(6, 8))):
        for k in numbers:
            write(raw / f"{split}/{k}.jpg", jpeg(k))
        rows = ({"file_name": f"{k}.jpg", "label": ANIMALS[k % 2]} for k in numbers)
        write(raw / f"{split}/metadata.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    theirs = load_dataset("imagefolder", data_dir=str(raw), cache_dir=str(tmp_path / "cache"))
    prep(raw)
    for split, name in (("train", "train"), ("val", "validation")):
        images = [*theirs[name].cast_column("image", Image(decode=False))]
        own = [(label, data) for _, label, data in stored(raw)[split]]
        assert own == [(row["label"], Path(row["image"]["path"]).read_bytes()) for row in images]


def test_numbers_keep_their_order_and_get_names(root: Path) -> None:
    numbers = [10, 9, 2, 10, 9, 2]
    write(root / "l.csv", "path,label\n" + "".join(f"{k}.jpg,{n}\n" for k, n in enumerate(numbers)))
    prep(root)
    manifest = open_dataset(root.parent / "raw-out").manifest
    assert manifest.classes == ["2", "9", "10"]
    write(root / "classes.txt", "".join(f"animal {n}\n" for n in range(11)))
    assert "classes.txt" in prep(root)
    manifest = open_dataset(root.parent / "raw-out").manifest
    assert manifest.classes == [f"animal {n}" for n in range(11)]
    assert [int(name.split()[1]) for _, name, _ in stored(root)["train"]] == numbers
    few = write(root.parent / "few.txt", "a\nb\n")
    assert "label 10" in prep(root, "--class-names", str(few), code=1)


def test_several_labels(root: Path) -> None:
    sets = [["a", "b"], ["b"], [], ["c", "a"], ["c"], ["b", "c"]]
    rows = ({"file": f"{k}.jpg", "labels": found} for k, found in enumerate(sets))
    write(root / "l.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert "any number for each image" in prep(root)
    dataset = open_dataset(root.parent / "raw-out")
    assert dataset.manifest.labels == "multi"
    assert dataset.manifest.splits["train"].label_counts == [2, 3, 3]


def test_several_labels_in_text(root: Path) -> None:
    cells = ["a;b", "b", "c", "c|a", "c", "b ; c"]
    write(root / "l.csv", "file,tags\n" + "".join(f"{k}.jpg,{c}\n" for k, c in enumerate(cells)))
    prep(root)
    manifest = open_dataset(root.parent / "raw-out").manifest
    assert manifest.classes == ["a", "b", "c"]
    assert manifest.splits["train"].label_counts == [2, 3, 4]


def test_every_row_and_file_is_used_or_named(root: Path) -> None:
    lines = ["image,label,split", "0.jpg,cat,train", "1.jpg,dog,train", "1.jpg,dog,train"]
    lines += ["2.jpg,,train", "3.jpg,cat,extra", "4.jpg,cat,", "gone.jpg,cat,train"]
    write(root / "labels.csv", "\n".join(lines))
    write(root / "notes.txt", "hello")
    write(root / "images/.hidden.jpg", jpeg(9))
    assert "gone.jpg" in prep(root, code=1)
    prep(root, "--on-bad", "skip")
    report = (root.parent / "raw-out/report.txt").read_text()
    for text in (
        "1.jpg: row that repeats another row",
        "images/2.jpg: it has no label",
        "images/3.jpg: its split, extra, is none of train, val, test",
        "images/4.jpg: it has no split, and others have one",
        "images/5.jpg: image that no list names",
        "images/.hidden.jpg: hidden file",
        "notes.txt: its ending is not that of an image (.txt)",
        "gone.jpg: the list names it, but there is no such image",
    ):
        assert text in report, text
    assert "labels.csv: " not in report
    assert [name for name, _, _ in stored(root)["train"]] == ["images/0.jpg", "images/1.jpg"]


def test_what_could_be_meant_in_two_ways(root: Path) -> None:
    write(root / "labels.csv", "file,kind\n" + "".join(f"{k}.jpg,{k % 2}\n" for k in range(6)))
    assert "one class only" in prep(root, code=1)  # the table has no column for labels
    text = prep(root, "--list", "label.csv", code=1)
    assert f"{root / 'label.csv'} does not exist" in text
    assert 'Did you mean "labels.csv"' in text
    assert 'Did you mean "kind"' in prep(
        root, "--list", "labels.csv", "--label-column", "knd", code=1
    )
    assert 'Did you mean "kind"?' in prep(root, "--label-column", "knd", code=1)
    prep(root, "--label-column", "kind")
    assert len(stored(root)["train"]) == 6
    write(root / "b.csv", "file,label\n" + "".join(f"{k}.jpg,{k % 3}\n" for k in range(6)))
    prep(root)
    write(root / "c.csv", "file,label\n" + "".join(f"{k}.jpg,{k % 2}\n" for k in range(6)))
    assert "2 lists: b.csv, c.csv. Choose one: --list b.csv" in prep(root, code=1)
    (root / "c.csv").rename(root / "train.csv")
    assert "Choose one: --list train.csv" in prep(root, code=1)
    (root / "train.csv").rename(root / "c.csv")
    prep(root, "--list", "c.csv")
    assert {label for _, label, _ in stored(root)["train"]} == {"0", "1"}
    write(root / "more/9.jpg", jpeg(9))
    text = prep(root, code=1)
    assert all(word in text for word in ("--layout list", "--layout classes", "more/"))
    prep(root, "--layout", "classes")
    assert {label for _, label, _ in stored(root)["train"]} == {"images", "more"}


def test_two_files_of_one_name(root: Path) -> None:
    write(root / "other/0.jpg", jpeg(7))
    write(root / "labels.csv", "file,label\n0.jpg,cat\n1.jpg,dog\n")
    assert "could be images/0.jpg or other/0.jpg" in prep(root, "--layout", "list", code=1)


@pytest.mark.parametrize("label", ["dog", "cat"])
def test_an_image_with_two_labels(root: Path, label: str) -> None:
    write(root / "labels.csv", f"file,label\n0.jpg,cat\n1.jpg,dog\nimages/0.jpg,{label}\n")
    text = prep(root, code=0 if label == "cat" else 1)
    assert ("with the labels cat and dog" in text) == (label == "dog")
    rows = f"file,label,split\n0.jpg,cat,train\n1.jpg,dog,train\nimages/0.jpg,{label},test\n"
    write(root / "labels.csv", rows)
    text = prep(root, code=0 if label == "cat" else 1)
    assert ("with the labels cat and dog" in text) == (label == "dog")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("l.csv", b"file,label\n0.jpg,\xff\n", "is not UTF-8"),
        ("l.csv", b"file,label\n0.jpg\n", "1 values for 2 columns"),
        ("l.csv", b'file,label\n"0.jpg,cat\n', "row 1"),
        ("l.csv", b"file,file,label\n", "two columns have the same name"),
        ("l.jsonl", b'{"file": "0.jpg", "label": 1.5}\n', "a measurement, not a class"),
        ("l.jsonl", b'{"file": "0.jpg", "label": {"a": "x"}}\n', "a dict is no label"),
        ("l.jsonl", b"[1]\n", "not an object in braces"),
        ("l.jsonl", b"[" * 100_000, "row 1"),
        ("l.csv", b"file,label\n" + b"x" * (2 << 20), "characters"),
        ("l.csv", b"a,b\n1,2\n", "--image-column"),
        ("l.csv", b"file,label\nx.jpg,1\n", "no image below the folder has such a name"),
        ("l.csv", b"file,label\n../images/0.jpg,1\n", "no image below the folder"),
        ("l.csv", b"file,label\n", "holds no row"),
        ("l.jsonl", b"", "holds no row"),
    ],
)
def test_damaged_lists(root: Path, name: str, content: bytes, words: str) -> None:
    write(root / name, content)
    assert words in prep(root, "--list", name, code=1)
    assert not (root.parent / "raw-out").exists()


def test_a_list_opens_only_what_lies_in_the_folder(root: Path) -> None:
    secret = write(root.parent / "secret/7.jpg", jpeg(7))
    entries = [str(secret), "../secret/7.jpg", "images/../../secret/7.jpg", "0.jpg", "1.jpg"]
    write(root / "l.csv", "file,label\n" + "".join(f"{e},{k % 2}\n" for k, e in enumerate(entries)))
    prep(root, "--on-bad", "skip")
    assert [name for name, _, _ in stored(root)["train"]] == ["images/0.jpg", "images/1.jpg"]


def test_escape_codes_of_a_list(root: Path) -> None:
    rows = ['"\x1b[2J.jpg",cat', '1.jpg,"\x1b[31mred"', '2.jpg,"two\nlines"', "3.jpg,cat"]
    write(root / "l.csv", "file,label\n" + "".join(f"{row}\n" for row in rows))
    assert "\x1b" not in prep(root, "--on-bad", "skip")
    assert "\x1b" not in (root.parent / "raw-out/report.txt").read_text()


def test_a_list_alone_is_a_source(root: Path) -> None:
    write(root / "a.csv", "file,label\n" + "".join(f"{k}.jpg,{ANIMALS[k % 2]}\n" for k in range(6)))
    os.rename(root / "a.csv", root / "test.csv")
    prep(root / "test.csv")
    assert stored(root / "test.csv") == expected()


def test_escape_codes_of_the_names_of_columns(root: Path) -> None:
    """They are listed where an option names a column that does not exist."""
    write(
        root / "l.csv", "file,label,\x1b[2J\n" + "".join(f"{k}.jpg,{k % 2},0\n" for k in range(6))
    )
    for option in ("--label-column", "--class-columns"):
        text = prep(root, "--list", "l.csv", option, "labl", code=1)
        assert 'Did you mean "label"' in text
        assert "\\x1b[2J" in text
        assert "\x1b" not in text
