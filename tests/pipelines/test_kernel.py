"""The cache of compiled kernels: it detects every change, is private, and its errors do not end a
run."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.pipelines.kernel_programs import (
    ASK,
    CALL,
    CALLED,
    CALLING,
    DIES_BEFORE_ITS_CODE,
    FRESH,
    NO_LOCKS,
    SAVES_SLOWLY,
    SAYS_THAT_IT_WAITS,
    TAKES_A_CLASS,
    WAITS_FOREVER,
    WAITS_NOT,
)
from tests.warm import Started, Warm

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the modules that `kernel` needs, with a kernel that calls one in another file."""
    folder = tmp_path / "slipform" / "pipelines"
    folder.mkdir(parents=True)
    for name in ("kernel.py", "machine.py", "number_text.py"):
        shutil.copy(ROOT / "pipelines" / name, folder / name)
    for part in (folder.parent, folder):
        (part / "__init__.py").touch()
        part.chmod(0o755)
    (folder / "called.py").write_text(CALLED.format(1))
    (folder / "calling.py").write_text(CALLING)
    return folder


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    """A process that has compiled a function, and has imported no module of Slipform."""
    with Warm("tests.pipelines.first_compile") as process:
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
    value, hits, path, _ = ask()
    assert (value, hits) == (30, 0)
    assert len([*path.glob("calling*.nbc")]) == 1, "the old code is deleted"


@pytest.mark.slow
def test_old_code_may_name_a_class_that_is_gone(package: Path, ask: Ask) -> None:
    """The index of the cache holds the types of the arguments, as pickled classes."""
    new = (package / "calling.py").read_text()
    (package / "calling.py").write_text(TAKES_A_CLASS)
    ask("from slipform.pipelines.calling import Gone, calling\ncalling(Gone(1))\n")
    (package / "calling.py").write_text(new)
    value, hits, path, said = ask()
    assert (value, hits, said) == (20, 0, "")
    assert ask()[:2] == (20, 1)
    assert len([*path.glob("calling*.nbc")]) == 1, "the old code is deleted"


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


@pytest.mark.parametrize(
    "name", [pytest.param("slipform", marks=pytest.mark.slow), "slipform/kernels"]
)
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
    for file in path.glob("calling*.nbi"):
        file.write_bytes(b"\x80\x05damaged")
    value, hits, _, said = ask()
    assert (value, hits) == (20, 0)
    assert "it cannot be read" in said


def _until(*paths: Path) -> None:
    """Wait until one of the files exists."""
    while not any(path.exists() for path in paths):
        time.sleep(0.01)


def _two_processes(
    warm: Warm, package: Path, first: str, second: str, code: int
) -> Callable[[], list[str]]:
    """A process saves the code for a whole number while another one saves that for a float, or
    waits for a lock. Returns a function that makes both calls in a new process."""
    root = package.parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root)}

    def start(program: str) -> Started:
        return warm.start(FRESH + program, environment=environment, folder=root)

    slow = start(SAVES_SLOWLY + first + WAITS_FOREVER + CALL.format([1]))
    _until(root / "begun", root / "ended")
    other = start(second + WAITS_FOREVER + CALL.format([1.5]))
    _until(root / "waits", root / "ended")
    (root / "go").touch()
    assert [warm.wait(slow).returncode, warm.wait(other).returncode] == [code, 0]

    def call() -> list[str]:
        done = warm.wait(start(CALL.format([1, 1.5])))
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.split()

    return call


def test_processes_that_save_at_once_keep_the_code_of_each_other(warm: Warm, package: Path) -> None:
    call = _two_processes(warm, package, "", SAYS_THAT_IT_WAITS, 0)
    assert call() == ["20", "25.0", "2"]


@pytest.mark.slow
def test_without_locks_no_process_gets_the_code_of_another_signature(
    warm: Warm, package: Path
) -> None:
    """The first process is killed when its index is written, and its code is not. The next ones
    compile what is missing, and delete what the index does not name."""
    call = _two_processes(warm, package, NO_LOCKS + DIES_BEFORE_ITS_CODE, NO_LOCKS, 3)
    assert call()[:2] == ["20", "25.0"]
    assert call() == ["20", "25.0", "2"]
    assert len([*(package / "__pycache__").glob("calling*.nbc")]) == 2


@pytest.mark.parametrize("lack", ["locks", pytest.param("a lock file", marks=pytest.mark.slow)])
def test_the_cache_works_without_locks(package: Path, ask: Ask, lack: str) -> None:
    if lack == "a lock file":
        (package / "__pycache__" / "kernels.lock").mkdir(parents=True)
    for hits in (0, 1):
        value, found, path, said = ask(NO_LOCKS if lack == "locks" else "")
        assert (value, found, said) == (20, hits, "")
        assert path == package / "__pycache__"


def test_a_process_that_keeps_the_lock_is_not_waited_for(package: Path, ask: Ask) -> None:
    """It may be stopped. The cache is used without the lock, as where there are no locks."""
    cache = package / "__pycache__"
    cache.mkdir()
    seconds = []
    with open(cache / "kernels.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # held by this process, and the kernels are in others
        for hits in (0, 1):
            value, found, path, said = ask(WAITS_NOT)
            assert (value, found, said, path) == (20, hits, "", cache)
            seconds.append(float((package.parents[1] / "slept").read_text()))
    assert seconds == [pytest.approx(10.0, abs=0.1), 0.0]  # once, not for each kernel
    assert len([*cache.glob("*.nbc")]) == 2
