"""The code in the pages runs, their commands and links exist, and the tree matches the folders."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.command_lines import COMMANDS, parse
from tests.console_blocks import environment
from tests.modules import ROOT
from tests.page_blocks import blocks, pages
from tests.warm import Warm

pytestmark = pytest.mark.timeout(1800)  # of a busy machine; the work takes less than a minute

README = ROOT / "README.md"
ROOMS = ("bench", "models", "pipelines", "preprocess", "train")
# The tables of sweeps are generated.
EVERY_PAGE = [page for page in pages() if page.name != "table.md"]
PAGES = [
    README,
    *(
        page
        for page in EVERY_PAGE
        if page != README and any(block.language == "python" for block in blocks(page))
    ),
]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the shell blocks of the README were run: data/shapes, runs/demo."""
    folder = tmp_path_factory.mktemp("reader")
    Image.new("RGB", (60, 40), (200, 120, 10)).save(folder / "photo.jpg")
    for block in blocks(README):
        if block.language == "bash":
            _run(["bash", "-euc", block.text], folder)
    assert (folder / "data/shapes/dataset.json").is_file()
    assert (folder / "runs/demo/summary.json").is_file()
    return folder


def _run(command: list[str], folder: Path) -> None:
    """Run a command that must succeed."""
    done = subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=800
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def errors(folder: Path, warm_process: Warm) -> dict[str, str]:
    """Page -> the error in its Python blocks. One process runs all of them, because imports take
    most of the time. Their runs draw no figures; the command of the README does."""
    program = (
        "import runpy, warnings; warnings.simplefilter('ignore')\n"
        "import pytest; from tests.train.drawing import without_figures\n"
        "without_figures(pytest.MonkeyPatch())\n"
        "runpy.run_module('tests.page_blocks', run_name='__main__')"
    )
    ended = warm_process.run(program, *PAGES, folder=folder, environment=environment())
    assert ended.returncode == 0, ended.stderr
    return dict(json.loads((folder / "errors.json").read_text(encoding="utf-8")))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_python_blocks_run(page: Path, errors: dict[str, str]) -> None:
    assert not errors[str(page)], errors[str(page)]


@pytest.mark.parametrize("page", EVERY_PAGE, ids=name_of)
def test_pages_of_rooms_have_no_shell_blocks(page: Path) -> None:
    """Tests run bash blocks: those of the README here, and those about shards in `engines`."""
    assert page in (README, ROOT / "preprocess/shards.md") or not [
        block for block in blocks(page) if block.language == "bash"
    ]


def _lines(page: Path) -> Iterator[list[str]]:
    """The words of every Slipform command in the shell and console blocks of a page."""
    for block in blocks(page):
        if block.language in ("bash", "console"):
            for line in block.text.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                    words.pop(0)
                if words:
                    yield words


@pytest.mark.parametrize("page", EVERY_PAGE, ids=name_of)
def test_commands_are_valid(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("photo.jpg", "README.md"):  # click requires existing files
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    for words in _lines(page):
        if words[0] in (*COMMANDS, "torchrun"):
            parse(words)


def test_wrong_commands_are_found() -> None:
    """The test above can fail."""
    for line in (
        "train data --optoin",
        "slipform trian",
        "prep show x --grid",
        "bench no-suite",
        "train data --recipe shapes/dmeo",
        "train data --set optimizer.rl=1",
        "slipform train data --recipe cifar10/fast --set train.epochs=x",
        "bench ab shapes/demo --data data --vs optimizer.rl=1",
    ):
        with pytest.raises((pytest.fail.Exception, AssertionError)):
            parse(line.split())


@pytest.mark.parametrize("page", EVERY_PAGE, ids=name_of)
def test_links_have_existing_targets(page: Path) -> None:
    text = re.sub(
        r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    missing = [
        link
        for link in links
        if "://" not in link and not (page.parent / link.partition("#")[0]).exists()
    ]
    assert not missing


def test_every_room_has_a_page_with_python() -> None:
    assert {ROOT / room / "README.md" for room in ROOMS} <= set(PAGES)


def test_pages_are_short() -> None:
    long = {"train/examples/README.md": 200, "preprocess/shards.md": 170}
    limits = {README: 130, **{ROOT / name: lines for name, lines in long.items()}}
    for page in PAGES:
        assert len(page.read_text(encoding="utf-8").splitlines()) <= limits.get(page, 150), page


def _tree() -> dict[str, str]:
    """Path of each folder in the tree of the README -> its description."""
    (block,) = [block for block in blocks(README) if not block.language]
    found, parent = {}, ""
    for line in block.text.splitlines():
        indent, name, text = re.fullmatch(r"( *)([\w.-]+/) +(\S.*)", line).groups()
        assert indent in ("", "  "), line
        parent = "" if not indent else parent
        found[parent + name] = text
        parent = parent or name
    return found


def test_the_tree_matches_the_folders() -> None:
    """All top-level folders, and the folders directly below them except for those of tests."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    parts = [path.split("/") for path in listed if "/" in path and path[0] != "."]
    folders = {f"{path[0]}/" for path in parts}
    folders |= {f"{path[0]}/{path[1]}/" for path in parts if len(path) > 2 and path[0] != "tests"}
    assert set(_tree()) == folders
    assert all(_tree().values())


def test_the_version_is_the_same_everywhere() -> None:
    """pyproject.toml has the version. The other places are compared with it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    version = project["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", changes, re.MULTILINE)[0] == version
