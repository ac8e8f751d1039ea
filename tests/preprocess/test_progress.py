"""The progress bar of prep: on a terminal, in a notebook, and not in a log."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from slipform.pipelines import notebook
from slipform.preprocess.prep import prepare
from slipform.preprocess.progress import progress_bar
from tests.modules import ROOT
from tests.terminal import on_terminal

CODE = """
import time
from slipform.preprocess.progress import progress_bar
with progress_bar(800, terminal=%s) as bar:
    for _ in range(8):
        time.sleep(0.05)
        bar(100)
    for part in (3_000_000, 4_000_000):
        bar.uploaded(part, 7_000_000)
"""


@pytest.mark.parametrize("columns", [80, 120])
def test_on_a_terminal(columns: int) -> None:
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", on_terminal(CODE % True, columns))
    images, sent = [line for line in re.split(r"[\r\n]+", plain) if line][-2:]
    assert re.fullmatch(r"━+ 800/800 +[\d,]+ images/s +\d:\d\d:\d\d *", images)
    assert re.fullmatch(r"━+ 7/7 MB sent +[\d,.]+ MB/s +\d:\d\d:\d\d *", sent)


def test_nothing_is_shown_if_a_terminal_is_not_meant() -> None:
    """`sf.prepare` is silent."""
    assert on_terminal(CODE % False, 80) == ""


def test_nothing_is_shown_in_a_log() -> None:
    command = [sys.executable, "-c", CODE % True]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True, cwd=ROOT
    )
    assert done.stdout == ""


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts of the output of a cell, as in a notebook that is shown at once."""
    texts: list[str] = []

    class Handle:
        def display(self, content: dict[str, Any], *, raw: bool) -> None:
            assert raw
            texts.append(content["text/plain"])

        update = display

    kernel = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object()))
    monkeypatch.setitem(sys.modules, "IPython", kernel)
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(DisplayHandle=Handle))
    monkeypatch.setattr(notebook, "_SECONDS", 0.0)
    return texts


def test_in_a_notebook(shown: list[str]) -> None:
    with progress_bar(800) as bar:
        bar(200)
        bar(600)
        bar.uploaded(3_000_000, 7_000_000)
    first, part, whole, two, last = shown
    assert re.fullmatch(r" +0/800 +0 images/s +-:--:--", first)
    assert re.match("━{10} +200/800 ", part)
    assert re.match("━{40} 800/800 ", whole)
    assert re.fullmatch(r"━{40} 800/800 .* images/s .*\n━+╸? +3/7 MB sent .* MB/s .*", two)
    assert last == ""


def test_the_line_of_a_notebook_ends_with_an_error(shown: list[str]) -> None:
    def fail() -> None:
        with progress_bar(8) as bar:
            bar(4)
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert "4/8" in shown[-2]
    assert shown[-1] == ""


def test_prepare_shows_it_in_a_notebook(shown: list[str], tmp_path: Path) -> None:
    sizes = {"num_train": 60, "num_val": 0, "num_test": 20}
    prepare("shapes", out=tmp_path / "whole", **sizes)
    assert " 0/80 " in shown[0]
    assert " 80/80 " in shown[-2]
    assert shown[-1] == ""
    shown.clear()
    prepare("shapes", out=tmp_path / "one", shard="1/2", **sizes)
    assert " 40/40 " in shown[-2]
    shown.clear()
    prepare("shapes", out=tmp_path / "several", shards=2, **sizes)
    assert any(text.startswith("2/2 shards, 80/80 images") for text in shown)
    assert shown[-1] == ""
