"""Lists with a column for each class, shares of classes, and rows without a label."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slipform.pipelines.dataset import open_dataset
from tests.preprocess.layouts.test_labels import source
from tests.preprocess.layouts.test_webdataset import tar
from tests.preprocess.sources import jpeg, prep, stored, write


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """0.jpg to 3.jpg."""
    for k in range(4):
        write(tmp_path / f"raw/{k}.jpg", jpeg(k))
    return tmp_path / "raw"


def written(root: Path) -> tuple[str, list[str], np.ndarray]:
    """The kind of the labels, the classes, and the targets of all images."""
    data = open_dataset(root.parent / f"{root.name}-out")
    count = len(data.beton("train"))
    targets = np.array([data.targets("train", index) for index in range(count)])
    return data.manifest.labels, data.classes, targets


def csv(root: Path, cells: list[str], header: str = "id,scab,healthy,rust") -> Path:
    rows = [f"{k},{cell}" for k, cell in enumerate(cells)]
    return write(root / "labels.csv", "\n".join([header, *rows]))


@pytest.mark.parametrize("columns", ["others", "scab,healthy,rust", "scab, healthy ,rust"])
@pytest.mark.parametrize(
    ("cells", "kind", "said"),
    [
        (["1,0,0", "0,1,0", "0,0,1.0", "0,1,0"], "single", "one label for each image"),
        (["1,1,0", "0,1,0", "0,0,0", "0,1,1"], "multi", "any number of labels"),
        (["0.5,0.25,0.25", "0,1,0", "0.1,0.2,0.7", "1,0,0"], "soft", "shares of classes"),
    ],
)
def test_what_the_numbers_are(
    root: Path, columns: str, cells: list[str], kind: str, said: str
) -> None:
    csv(root, cells)
    assert f"read as {said}" in prep(root, "--class-columns", columns)
    found, classes, targets = written(root)
    assert found == kind
    assert classes == ["scab", "healthy", "rust"]  # in the order of the columns
    np.testing.assert_allclose(targets, [[float(x) for x in c.split(",")] for c in cells])


def test_other_columns_splits_and_jsonl(root: Path) -> None:
    rows = [
        {"file": f"{k}.jpg", "a": k / 4, "b": 1 - k / 4, "width": 640, "split": "train"}
        for k in range(4)
    ]
    write(root / "l.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    prep(root, "--class-columns", "a,b")
    assert written(root)[2][:, 0].tolist() == [0, 0.25, 0.5, 0.75]
    text = prep(root, "--class-columns", "others", code=1)
    assert 'the column width has "640"' in text


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (["1,0,0", "0.5,0.2,0"], "1: the shares sum to 0.7: give shares that sum to 1"),
        (["0,0,0", "0.5,0.5,0"], "0: the shares sum to 0: give shares that sum to 1"),
        (["1,0,0", "0,1,"], 'row 2: the column rust has ""'),
        (["1,0,0", "0,1,2"], 'row 2: the column rust has "2"'),
        (["1,0,0", "0,nan,1"], 'row 2: the column healthy has "nan"'),
        (["1,0,0", "0,x,1"], 'row 2: the column healthy has "x"'),
    ],
)
def test_numbers_that_are_no_labels(root: Path, cells: list[str], words: str) -> None:
    csv(root, cells)
    assert words in prep(root, "--class-columns", "others", code=1)


def test_options_that_contradict_the_list(root: Path) -> None:
    csv(root, ["1,0,0"] * 4)
    assert 'Did you mean "healthy"' in prep(root, "--class-columns", "scab,helthy", code=1)
    assert "cannot have two meanings" in prep(root, "--class-columns", "scab,scab", code=1)
    for other in (["--label-column", "scab"], ["--class-names", "x"]):
        assert "leave out" in prep(root, "--class-columns", "scab", *other, code=1)
    text = prep(root, "--layout", "classes", "--class-columns", "scab", code=1)
    assert "has no effect" in text
    csv(root, ["1,0,0"] * 4).rename(root / "train.csv")
    csv(root, ["1,0"] * 2, "id,scab,healthy").rename(root / "test.csv")
    assert "other columns of classes" in prep(root, "--class-columns", "others", code=1)


@pytest.mark.parametrize("unlabeled", ["skip", "error", "background"])
@pytest.mark.parametrize(
    ("labels", "kind", "classes", "kept"),
    [
        (["b", "a", None, "b"], "single", ["a", "b", "background"], 2),
        ([1, 7, "", 1], "single", ["1", "7", "background"], 2),
        ([["b"], ["a", "b"], None, []], "multi", ["a", "b"], -1),
        ([{"a": 0.75, "b": 0.25}, "b", None, {"a": 1}], "soft", ["a", "b", "background"], 2),
        (["background", "a", None, "a"], "single", ["a", "background"], 1),
    ],
)
def test_rows_without_a_label(
    tmp_path: Path, unlabeled: str, labels: list[Any], kind: str, classes: list[str], kept: int
) -> None:
    root = source(tmp_path / "raw", labels)
    if unlabeled == "error":
        text = prep(root, "--unlabeled", unlabeled, code=1)
        assert "images without a label: 1 (images/2.jpg)" in text
        assert "--unlabeled skip" in text
        assert not (tmp_path / "raw-out").exists()
        return
    text = prep(root, "--unlabeled", unlabeled)
    found, names, targets = written(root)
    report = (tmp_path / "raw-out/report.txt").read_text()
    assert found == kind
    if unlabeled == "skip":
        assert len(targets) == 3
        assert "images/2.jpg: it has no label" in report
        assert names == [name for name in classes if name != "background" or name in labels]
        return
    assert names == classes
    assert "images without a label: 1; they have" in text
    assert "images/2.jpg" not in report.partition("left out:\n")[2]
    wanted = np.zeros(len(classes))
    wanted[[kept] if kept >= 0 else []] = 1
    assert targets[2].tolist() == wanted.tolist()
    assert targets[[0, 1, 3]].any(1).tolist() == [True, True, kind != "multi"]


def test_an_image_without_a_label_stands_once_in_the_dataset(tmp_path: Path) -> None:
    root = source(tmp_path / "raw", ["a", "b", None])
    with open(root / "l.jsonl", "a", encoding="utf-8") as file:
        file.write('{"image_id": 2, "label": null}\n')
    prep(root, "--unlabeled", "background")
    assert [label for _, label, _ in stored(root)["train"]] == ["a", "b", "background"]
    with open(root / "l.jsonl", "a", encoding="utf-8") as file:
        file.write('{"image_id": 2, "label": "a"}\n')
    assert "images/2.jpg" in prep(root, "--unlabeled", "background", code=1)
    prep(root)
    assert [label for _, label, _ in stored(root)["train"]] == ["a", "b", "a"]


def test_tars_with_shares_and_without_labels(tmp_path: Path) -> None:
    members: dict[str, bytes | str] = {}
    for k in range(3):
        members |= {
            f"{k}.jpg": jpeg(k),
            f"{k}.json": json.dumps({"label": {"x": k / 2, "y": 1 - k / 2}}),
        }
    write(tmp_path / "raw/a.tar", tar({**members, "3.jpg": jpeg(3)}))
    assert "shares of classes for each image" in prep(tmp_path / "raw", "--unlabeled", "background")
    kind, classes, targets = written(tmp_path / "raw")
    assert (kind, classes) == ("soft", ["x", "y", "background"])
    assert targets[:, 0].tolist() == [0, 0.5, 1, 0]
    assert targets[3].tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ({"a": 0.5}, "the shares sum to 0.5"),
        ({"a": 2}, "a dict is no label"),
        ({"a": True}, "a dict is no label"),
        ({"a": [1]}, "a dict is no label"),
        ({" ": 1}, "a share has no class"),
        (["a"], "has shares of classes"),
    ],
)
def test_objects_that_are_no_shares(tmp_path: Path, label: Any, words: str) -> None:
    root = source(tmp_path / "raw", [{"a": 0.5, "b": 0.5}, label])
    assert words in prep(root, "--list", "l.jsonl", code=1)


def test_two_names_of_one_class(tmp_path: Path) -> None:
    root = source(tmp_path / "raw", [{"a": 0.5, " a": 0.25, "b": 0.25}, "b"])
    prep(root)
    assert written(root)[2].tolist() == [[0.75, 0.25], [0, 1]]


def test_folders_have_no_rows_without_labels(tmp_path: Path) -> None:
    for k in range(4):
        write(tmp_path / f"raw/{'ab'[k % 2]}/{k}.jpg", jpeg(k))
    assert "has no effect" in prep(tmp_path / "raw", "--unlabeled", "background", code=1)
    prep(tmp_path / "raw", "--unlabeled", "skip")


def test_an_index_without_a_name_is_no_class(root: Path) -> None:
    csv(root, ["a,1,0", "b,0,1", "c,1,0", "d,,"], ",id,x,y")
    rows = (root / "labels.csv").read_text().splitlines()
    names = [row.replace(f",{'abcd'[k]},", f",{k},") for k, row in enumerate(rows[1:])]
    write(root / "labels.csv", "\n".join([rows[0], *names]))
    prep(root, "--class-columns", "others")
    assert written(root)[1] == ["x", "y"]
    lines = [json.dumps({"file": f"{k}.jpg", "x": float("nan"), "y": None}) for k in range(2)]
    lines += [json.dumps({"file": f"{k}.jpg", "x": 1 - k / 4, "y": k / 4}) for k in range(2, 4)]
    write(root / "l.jsonl", "\n".join(lines))
    prep(root, "--list", "l.jsonl", "--class-columns", "x,y")
    assert written(root)[2].tolist() == [[0.5, 0.5], [0.25, 0.75]]
