"""Several labels in one cell: how it is divided, and the warning if it is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slipform.pipelines.dataset import open_dataset
from slipform.preprocess.layouts.label_cells import as_label, separator_warning
from tests.preprocess.layouts.test_webdataset import tar
from tests.preprocess.sources import jpeg, prep, stored, write

CELLS = ["Effusion|Mass", "Mass", "Effusion", "No Finding", ""]
NIH = ("--label-column", "Finding Labels")


def listed(root: Path, cells: list[str], column: str = "labels") -> Path:
    """A list with one image for each cell."""
    for k in range(len(cells)):
        write(root / f"images/{k}.jpg", jpeg(k))
    quoted = ('"' + cell.replace('"', '""') + '"' for cell in cells)
    rows = (f"{k}.jpg,{cell}\n" for k, cell in enumerate(quoted))
    write(root / "l.csv", f"file,{column}\n" + "".join(rows))
    return root


def sets(root: Path) -> list[list[str]]:
    """The classes of each image, which has any number of them."""
    data = open_dataset(root.parent / f"{root.name}-out")
    assert data.manifest.labels == "multi"
    targets = [data.targets("train", k) for k in range(len(data.beton("train")))]
    return [[data.classes[k] for k in np.flatnonzero(target)] for target in targets]


def test_the_separator_divides_any_column(tmp_path: Path) -> None:
    root = listed(tmp_path / "raw", CELLS, "Finding Labels")
    text = prep(root, *NIH, "--label-separator", "|")
    assert sets(root) == [["Effusion", "Mass"], ["Mass"], ["Effusion"], ["No Finding"]]
    assert "warning: labels that seem" not in text
    assert "images/4.jpg: it has no label" in (tmp_path / "raw-out/report.txt").read_text()
    manifest = open_dataset(tmp_path / "raw-out").manifest
    assert manifest.options["label_separator"] == "|"


def test_the_separator_in_tars(tmp_path: Path) -> None:
    members: dict[str, bytes | str] = {}
    for k, (ending, label) in enumerate(
        [("txt", "a b"), ("cls", "a"), ("json", '{"kind": "b c"}')]
    ):
        members |= {f"{k}.jpg": jpeg(k), f"{k}.{ending}": label}
    write(tmp_path / "raw/x.tar", tar(members))
    prep(tmp_path / "raw", "--label-separator", " ", "--label-column", "kind")
    assert sets(tmp_path / "raw") == [["a", "b"], ["a"], ["b", "c"]]


def test_a_separator_that_no_label_has(tmp_path: Path) -> None:
    root = listed(tmp_path / "raw", ["a|b", "a", "b"], "label")
    text = prep(root, "--label-separator", ";", code=1)
    assert '--label-separator ";" has no effect: no label of' in text
    columns = ("--class-columns", "label", "--label-separator", "|")
    assert "leave out --label-column, --label-separator" in prep(root, *columns, code=1)


@pytest.mark.parametrize(
    ("cell", "separator", "label"),
    [
        ("['a', 'b c']", "", ["a", "b c"]),
        ('["a", "b\\u00e9", 3]', "", ["a", "bé", 3]),
        ('["\\ud83d\\ude00"]', "", ["\U0001f600"]),
        ("""["it's", 'a"b', 'it\\'s',]""", "", ["it's", 'a"b', "it's"]),
        ("[1, -2]", "", [1, -2]),
        (" [] ", "", []),
        ("['a,b', 'c']", ",", ["a,b", "c"]),
        ("a, b,,c ", ",", ["a", "b", "c"]),
        (" haze  primary ", " ", ["haze", "primary"]),
        ("a.b", ".", ["a", "b"]),  # it is no regular expression
        ("a;b", ",", "a;b"),
        ("  ", " ", ""),
        # Texts that are no list of texts and whole numbers stay what they were.
        ("['a' 'b']", "", "['a' 'b']"),
        ("[True]", "", "[True]"),
        ("[1.5]", "", "[1.5]"),
        ("[['a']]", "", "[['a']]"),
        ("[__import__('os')]", "", "[__import__('os')]"),
        ("['\\xzz']", "", "['\\xzz']"),
        ("[x]", "", "[x]"),
        ("[" * 5000 + "]" * 5000, "", "[" * 5000 + "]" * 5000),
    ],
)
def test_a_cell(cell: str, separator: str, label: Any) -> None:
    assert as_label(cell, "labels", separator) == label
    if not separator:
        assert as_label(cell, "label") == cell


@pytest.mark.parametrize("separator", ["|", ";", ",", " "])
def test_the_warning(separator: str) -> None:
    both = f"a{separator}b"
    said = separator_warning(["a", both, "b", "c"])
    assert said.endswith(f"one class each: {both}. To divide them: --label-separator '{separator}'")
    assert separator_warning(["1", f"1{separator}2", 2])
    assert not separator_warning(["a", both, "c", None])  # b is no label of another row


def test_the_warning_without_labels_that_stand_alone() -> None:
    """Planet: each image has a weather and other labels, and few texts are one label."""
    weather, ground = ("clear", "haze"), ("primary", "water", "road")
    every = [f"{one} {two} {three}" for one in weather for two in ground for three in ground]
    assert "--label-separator ' '" in separator_warning(every)
    assert not separator_warning(f"{one} {two}" for one in weather for two in ground)


@pytest.mark.parametrize(
    "names",
    [
        ("golden retriever", "labrador retriever", "retriever"),
        ("Audi TT, 2012", "Audi A5, 2012", "BMW"),
        ("a a", "a", "|", " , "),
    ],
)
def test_names_of_several_words_are_one_label(names: tuple[str, ...]) -> None:
    assert not separator_warning(names)


def test_where_the_warning_is_printed(tmp_path: Path) -> None:
    root = listed(tmp_path / "raw", CELLS, "Finding Labels")
    words = 'warning: labels that seem to be several labels with "|" between them'
    assert words in prep(root, *NIH, "--dry-run")
    assert words in prep(root, *NIH)
    assert words in (tmp_path / "raw-out/report.txt").read_text()
    assert {label for _, label, _ in stored(root)["train"]} == {*CELLS} - {""}
    root = listed(tmp_path / "comma", ["a,b", "a", "b"])
    assert "--label-separator ','" in prep(root)
    # Names of classes that a file gives are not several labels.
    names = write(tmp_path / "names.txt", "a\nb\na,b\n")
    assert "--label-separator" not in prep(root, "--class-names", str(names))


def test_lists_in_a_column_of_text(tmp_path: Path) -> None:
    cells = ["['a', 'b']", json.dumps(["b"]), "[]", "c;a"]
    root = listed(tmp_path / "raw", cells)
    prep(root)
    assert sets(root) == [["a", "b"], ["b"], [], ["a", "c"]]
