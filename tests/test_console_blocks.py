"""The commands in the console blocks of the pages run, where this machine has what they need."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.console_blocks import commands, environment, prepare, reason_not
from tests.modules import ROOT
from tests.page_blocks import blocks, pages

PAGES = [page for page in pages() if any(block.language == "console" for block in blocks(page))]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a reader: data/shapes and runs/demo of the README, and what pages assume."""
    folder = tmp_path_factory.mktemp("reader")
    prepare(folder)
    for block in blocks(ROOT / "README.md"):
        if block.language == "bash":
            command = ["bash", "-euc", block.text]
            subprocess.run(command, cwd=folder, env=environment(), check=True)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_console_blocks_run(page: Path, prepared: Path, tmp_path: Path) -> None:
    lines = [
        line
        for block in blocks(page)
        if block.language == "console"
        for line in commands(block.text)
    ]
    reasons = {line: reason_not(line) for line in lines}
    if all(reasons.values()):
        pytest.skip(f"no command can run here: {reasons}")
    folder = tmp_path / "reader"
    shutil.copytree(prepared, folder)
    done = subprocess.run(
        [sys.executable, "-m", "tests.page_blocks", "--console", page],
        cwd=folder, env=environment(), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    error = json.loads((folder / "errors.json").read_text(encoding="utf-8"))[str(page)]
    assert not error, error


def test_many_commands_of_the_pages_run() -> None:
    """A pattern that is too wide would leave out commands that this machine can run."""
    found = [
        line
        for page in PAGES
        for block in blocks(page)
        if block.language == "console"
        for line in commands(block.text)
    ]
    assert sum(not reason_not(line) for line in found) >= 0.4 * len(found)
    assert not reason_not("slipform predict runs/first photo.jpg")
