"""The search for the layout of a source."""

from __future__ import annotations

from pathlib import Path

from slipform.preprocess import layouts
from slipform.preprocess.layouts.find_layout import OPTIONS, discover


def test_files_without_an_underscore_are_layouts() -> None:
    names = {path.stem for path in Path(next(iter(layouts.__path__))).glob("*.py")}
    assert {*discover()} == {name for name in names if "_" not in name} - {"contract"}
    for layout in discover().values():
        assert {*layout.options} <= {*OPTIONS}
