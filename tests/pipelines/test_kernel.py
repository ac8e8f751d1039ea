"""The cache of compiled kernels: it detects every change, is private, and its errors do not end a
run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.warm import Warm

ROOT = Path(__file__).resolve().parents[2]
CALLED = (
    "from slipform.pipelines.kernel import kernel\n@kernel\ndef called(x):\n    return x + {}\n"
)
CALLING = """
from slipform.pipelines.kernel import kernel
from slipform.pipelines.called import called
@kernel
def calling(x):
    return 10 * called(x)
"""
# Settings that the warm process may have read from its environment.
FRESH = """
import sys, tempfile
sys.dont_write_bytecode, tempfile.tempdir = True, None
"""
ASK = """
import warnings
warnings.simplefilter("always")
from slipform.pipelines.calling import calling
from slipform.pipelines.kernel import is_compiled
before = is_compiled(calling)
value = calling(1)
assert is_compiled(calling)
assert before or not calling.stats.cache_hits
print(value, sum(calling.stats.cache_hits.values()), calling._cache.cache_path)
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the modules that `kernel` needs, with a kernel that calls one in another file."""
    folder = tmp_path / "slipform" / "pipelines"
    folder.mkdir(parents=True)
    for name in ("kernel.py", "machine.py"):
        shutil.copy(ROOT / "pipelines" / name, folder / name)
    for part in (folder.parent, folder):
        (part / "__init__.py").touch()
        part.chmod(0o755)
    (folder / "called.py").write_text(CALLED.format(1))
    (folder / "calling.py").write_text(CALLING)
    return folder


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    """A process that has imported numba, but no module of Slipform."""
    with Warm("numba") as process:
        yield process


Ask = Callable[..., tuple[int, int, Path, str]]


@pytest.fixture
def ask(warm: Warm, package: Path) -> Ask:
    """Run the kernel in a new process. Returns its result, whether it came from the cache, the
    cache folder, and the messages. home=False: without HOME and XDG_CACHE_HOME."""
    root = package.parents[1]

    def run(prefix: str = "", home: bool = True) -> tuple[int, int, Path, str]:
        environment = {
            key: value for key, value in os.environ.items() if key not in ("HOME", "XDG_CACHE_HOME")
        }
        environment |= {"PYTHONPATH": str(root), "TMPDIR": str(root / "temporary")}
        if home:
            environment["XDG_CACHE_HOME"] = str(root / "cache")
        result = warm.run(FRESH + prefix + ASK, environment=environment, folder=root)
        assert result.returncode == 0, result.stderr
        value, hits, path = result.stdout.split()
        return int(value), int(hits), Path(path), result.stderr

    return run


def test_a_change_in_a_called_function_of_another_file_is_detected(package: Path, ask: Ask) -> None:
    assert ask()[:2] == (20, 0)
    assert ask()[:2] == (20, 1)
    (package / "called.py").write_text(CALLED.format(2))
    assert ask()[:2] == (30, 0)


def test_a_folder_open_to_others_is_not_read(package: Path, ask: Ask) -> None:
    """Such a folder beside the source is replaced by a private one in the cache folder. Such a
    folder there is refused with a warning."""
    package.chmod(0o775)
    _, _, path, said = ask()
    assert path.parent == package.parents[1] / "cache" / "slipform" / "kernels"
    assert path.stat().st_mode & 0o777 == 0o700
    assert not said
    assert ask()[1] == 1
    path.chmod(0o777)
    value, hits, _, said = ask()
    assert (value, hits) == (20, 0)
    assert "others may write" in said


@pytest.mark.parametrize("name", ["slipform", "slipform/kernels"])
def test_a_private_folder_inside_one_of_others_is_not_read(
    package: Path, ask: Ask, name: str
) -> None:
    """A user who can write to the parent folder could replace the private one."""
    package.chmod(0o775)
    ask()
    around = package.parents[1] / "cache" / name
    assert around.stat().st_mode & 0o777 == 0o700
    assert ask()[1] == 1
    around.chmod(0o777)
    value, hits, _, said = ask()
    assert (value, hits) == (20, 0)
    assert "others may write" in said
    if os.getuid() == 0:
        around.chmod(0o700)
        os.chown(around, 12345, 12345)
        value, hits, _, said = ask()
        assert (value, hits) == (20, 0)
        assert "another user" in said


def test_without_a_home_kernels_lie_in_a_private_temporary_folder(package: Path, ask: Ask) -> None:
    """As in a container whose user has no home folder and cannot write beside the source."""
    package.chmod(0o775)
    temporary = package.parents[1] / "temporary"
    temporary.mkdir()
    value, hits, path, said = ask(home=False)
    assert (value, hits, said) == (20, 0, "")
    assert path.parent == temporary / f"slipform-{os.getuid()}" / "kernels"
    assert path.stat().st_mode & 0o777 == 0o700
    assert ask(home=False)[1] == 1


def test_a_full_disk_or_a_damaged_file_does_not_end_a_run(ask: Ask) -> None:
    full = "import os, errno\ndef replace(*_): raise OSError(errno.ENOSPC, 'No space left')\n"
    value, hits, path, said = ask(full + "os.replace = replace\n")
    assert (value, hits) == (20, 0)
    assert "No space left" in said
    assert ask()[1] == 0
    assert ask()[1] == 1
    for file in path.glob("calling*.nbc"):
        file.write_bytes(b"\x80\x05damaged")
    assert ask()[:2] == (20, 0)
