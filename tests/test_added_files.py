"""A file that a page tells a reader to add, in a copy of the checkout: the tests that the page
names for it are found, and pass."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.modules import ROOT
from tests.page_blocks import blocks

PAGES = ("pipelines/adding.md", "models/README.md", "bench/adding.md", "pipelines/plan/adding.md")
REFUSES = re.compile(r"a line in `REFUSES` of `([\w.]+)`, here `([^`]+)`")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the tracked files."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        target = tmp_path / "checkout" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target, follow_symlinks=False)
    return tmp_path / "checkout"


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_tests_that_a_page_names_pass(page: str, checkout: Path) -> None:
    added = [block for block in blocks(ROOT / page) if "/" in block.file]
    for block in added:
        assert not (checkout / block.file).exists()
        (checkout / block.file).write_text(block.text, encoding="utf-8")
    text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
    for name, line in REFUSES.findall(text):
        (path,) = checkout.rglob(name)
        before = path.read_text(encoding="utf-8")
        path.write_text(before.replace("\nREFUSES = {\n", f"\nREFUSES = {{\n    {line},\n"))
    commands = re.findall(r"pytest -n 0 (\S+) -k (\w+)", text)
    assert added
    assert commands
    for folder, word in commands:
        assert word in {Path(block.file).stem for block in added}
        done = subprocess.run(
            [sys.executable, *f"-m pytest -n 0 -p no:cacheprovider {folder} -k {word}".split()],
            cwd=checkout,
            env={**os.environ, "PYTHONPATH": str(checkout)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout  # 5: no test was found
        assert "passed" in done.stdout
