"""The commit in a result: it says whether other code than that of the commit was measured."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from slipform.bench.result.environment import commit_of

MODULE = "bench/result/environment.py"
pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def _git(root: Path, *words: str) -> str:
    own = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", "-C", str(root), *own, *words], capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):  # set in the hooks of git
        monkeypatch.delenv(name, raising=False)
    root = tmp_path / "checkout"
    for name in (MODULE, "train/loop.py"):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text("one = 1\n")
    (root / ".gitignore").write_text("/bench/mine.py\n.venv/\n")
    _git(tmp_path, "init", "-q", str(root))
    _git(root, "add", "-A")
    _git(root, "commit", "-q", "-m", "first")
    return root


def test_a_clean_checkout(checkout: Path) -> None:
    assert commit_of(checkout / MODULE) == _git(checkout, "rev-parse", "--short=12", "HEAD")


@pytest.mark.parametrize(
    ("changed", "dirty"),
    [
        ("train/loop.py", True),
        ("bench/peers/fast/mine.py", True),
        ("pipelines/mine.py", True),
        ("train/recipes/mine/first.toml", True),
        ("bench/mine.py", False),  # ignored
        ("bench/results/new.json", False),
        ("tests/test_mine.py", False),
        ("mine.py", False),
    ],
)
def test_a_file_that_is_not_in_the_commit(changed: str, dirty: bool, checkout: Path) -> None:
    (checkout / changed).parent.mkdir(parents=True, exist_ok=True)
    (checkout / changed).write_text("two = 2\n")
    commit = _git(checkout, "rev-parse", "--short=12", "HEAD")
    assert commit_of(checkout / MODULE) == (f"{commit}-dirty" if dirty else commit)


@pytest.mark.parametrize("inside", [True, False])
def test_an_installed_package_has_no_commit(inside: bool, checkout: Path, tmp_path: Path) -> None:
    """Also in the virtual environment of another repository, whose commit is not Slipform's."""
    module = (checkout if inside else tmp_path) / ".venv/site-packages/slipform" / MODULE
    module.parent.mkdir(parents=True)
    module.write_text("one = 1\n")
    assert commit_of(module) == ""
