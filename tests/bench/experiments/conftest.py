"""A folder of the page without tables, and tables of sweeps in it."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slipform.bench.commands.experiments import FOLDER
from slipform.bench.experiments.conclusions import CHECKS

WriteTable = Callable[..., None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the committed checks and without tables."""
    found = tmp_path / "experiments"
    found.mkdir()
    shutil.copy(FOLDER / CHECKS, found / CHECKS)
    return found


@pytest.fixture
def write_table(folder: Path) -> WriteTable:
    """write_table(recipe, lines, epochs): the tables of a sweep, one dictionary for each line."""

    def write(
        recipe: str, lines: list[dict[str, Any]], epochs: list[dict[str, Any]] | None = None
    ) -> None:
        own = folder / Path(recipe).stem
        own.mkdir()
        (own / "table.md").write_text(f"# {recipe} (A1)\n")
        for name, rows in (("table.csv", lines), ("epochs.csv", epochs or [])):
            if rows:
                with open(own / name, "w", encoding="utf-8", newline="") as file:
                    columns = list(dict.fromkeys(key for row in rows for key in row))
                    writer = csv.DictWriter(file, columns)
                    writer.writeheader()
                    writer.writerows(rows)

    return write
