"""Long lines in lists: the time grows with their length, not with its square.

A line that takes minutes is ended by the time limit of pytest.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from slipform.preprocess.layouts.label_cells import as_label
from tests.preprocess.layouts.test_imagenet import images
from tests.preprocess.sources import jpeg, prep, stored, write

LENGTH = 900_000


@pytest.mark.parametrize("character", ["x", ".", " ", ",", "n", "/"])
def test_lists_of_imagenet(tmp_path: Path, character: str) -> None:
    root = images(tmp_path / "raw")
    line = character * LENGTH
    write(root / "LOC_val_solution.csv", f"{line}\nILSVRC2012_val_00000001,n01440764 1\n")
    write(root / "words.txt", f"{line}\nn01440764{line}\nn01440764 tench\n")
    prep(root)
    assert len(stored(root)["val"]) == 1


@pytest.mark.parametrize("character", [" ", ";", "| "])
def test_several_labels(character: str) -> None:
    assert as_label("a" + character * LENGTH + "; b", "labels") == ["a", "b"]


@pytest.mark.parametrize(
    ("part", "label"),
    [("'a',", "a"), ("'a' , ", "a"), ("-1,", -1), ("[", ""), ("\\\\", ""), ("'", ""), ("1", "")],
)
def test_lists_in_text(part: str, label: str | int) -> None:
    """A label of "" stands for a text that is no list."""
    count = LENGTH // 10 // len(part)
    text = f"[{part * count}]"
    assert as_label(text, "labels") == ([label] * count if label else text)


@pytest.mark.parametrize("character", ["/", "x/", "\\\\", " "])
def test_paths(tmp_path: Path, character: str) -> None:
    for k in range(4):
        write(tmp_path / f"raw/images/{k}.jpg", jpeg(k))
    rows = "".join(f'{{"file": "{k}.jpg", "label": {k % 2}}}\n' for k in range(4))
    entry = character * (LENGTH // len(character)) + "x.jpg"
    write(tmp_path / "raw/l.jsonl", f'{{"file": "{entry}", "label": 1}}\n' + rows)
    prep(tmp_path / "raw", "--on-bad", "skip")
    assert len(stored(tmp_path / "raw")["train"]) == 4
