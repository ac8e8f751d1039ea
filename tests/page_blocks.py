"""The code blocks of the Markdown pages, and a program that runs the Python ones.

In: Markdown. Out: `Block`s. As a program: `python -m tests.page_blocks [--console] PAGE...`, run in
a folder with data/shapes and runs/demo, writes errors.json: page -> the error of its first block
that failed, or "". With --console, the commands of console blocks run, too.

All Python blocks of a page share one namespace. A block whose first line is a comment with a path
is a file. A path in a room (`# models/mini.py`) becomes a module of that room. Other files are
written into the working folder. A block below `<!-- needs: NAME -->` runs only if that package is
installed. It is always parsed.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import re
import subprocess
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.console_blocks import run_block
from tests.modules import ROOT

_FENCE = re.compile(r"(?:<!-- needs: (\w+) -->\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# ([\w./-]+\.(?:py|toml))\n")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, the package that it needs ("" for none)."""

    language: str
    text: str
    needs: str = ""

    @property
    def file(self) -> str:
        """The path that the first line names, or ""."""
        found = _FILE.match(self.text)
        return found[1] if found else ""


def pages() -> list[Path]:
    """All Markdown files of the repository, sorted. Other files in the folder are a user's."""
    command = ["git", "ls-files", "*.md"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return sorted(ROOT / line for line in listed.stdout.splitlines())


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [Block(language, body, needs) for needs, language, body in _FENCE.findall(text)]


def run_page(page: Path, *, console: bool = False) -> str:
    """Run the Python blocks of a page, and the commands of its console blocks if `console`.

    Returns the traceback of the first failure, or "".
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page):
        try:
            if block.file:
                _write(block)
            elif block.language == "python":
                ast.parse(block.text)
                if not block.needs or importlib.util.find_spec(block.needs):
                    exec(compile(block.text, f"{page}, a block", "exec"), names)
            elif block.language == "console" and console:
                run_block(block.text)
        except BaseException:
            return f"{block.text}\n{traceback.format_exc()}"
    return ""


def _write(block: Block) -> None:
    """Write the file of a block. The room finds its new module from now on."""
    package, _, _ = block.file.rpartition("/")
    path = Path("rooms" if package else ".", block.file).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(block.text, encoding="utf-8")
    if package:
        room = importlib.import_module(f"slipform.{package.replace('/', '.')}")
        if str(path.parent) not in room.__path__:
            room.__path__.append(str(path.parent))
        importlib.invalidate_caches()


if __name__ == "__main__":
    console = sys.argv[1] == "--console"
    errors = {name: run_page(Path(name), console=console) for name in sys.argv[1 + console :]}
    Path("errors.json").write_text(json.dumps(errors), encoding="utf-8")
