"""The images in the folders that `predict` is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipform.pipelines.errors import SlipformError
from slipform.train.inference.predict import find_images


def test_folders_are_searched_as_by_prep(tmp_path: Path) -> None:
    """Without what systems hide beside images: thumbnails, and the ._x.jpg of macOS."""
    root = tmp_path / ".hidden" / "photos"  # a folder that is given is no hidden one
    shown = ("b.PNG", "a/x.jpg", "a/deep/y.webp")
    for name in (*shown, "a/._x.jpg", ".thumbs/x.jpg", "a/.cache/z/x.jpg", "notes.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "a/folder.jpg").mkdir()
    assert find_images([root]) == [root / name for name in sorted(shown)]
    one = root / "a/._x.jpg"  # as asked for
    assert find_images([one, root / "b.PNG"]) == [one, root / "b.PNG"]
    with pytest.raises(SlipformError, match="contains no images"):
        find_images([root / "a/folder.jpg"])
