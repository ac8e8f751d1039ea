"""`kernel`: numba.njit with a cache on disk that is safe to read and follows every change.

In: a function. Out: its compiled form, which releases the GIL.

numba compiles called functions into their callers, but it compares only the time stamp of the
caller's file. After a change of another file it would run old code. Here the stamp is a hash of all
files that define compiled code, which are those that import numba or `kernel`. The constants that
compiled code reads must be defined in such files (tests/pipelines/test_kernel_sources.py).

The cache contains code, so only this user may be able to write to it. It is in the source folder,
or below `cache_folder` if the source folder is not writable or is open to others. A cache folder
that another user owns or can write to is not read. If no folder can be used, each process compiles
the kernels again.

Several processes may use a cache at once. No two of them write the same file of code, so no process
reads the code of another signature.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache, IndexDataCacheFile

from slipform.pipelines.machine import cache_folder, is_own

__all__ = ["is_compiled", "kernel"]

# Seconds that a process waits for a lock. A save takes milliseconds: whoever keeps the lock for so
# long was stopped or hangs.
_LONGEST_WAIT = 10.0
_LOOK = 0.01  # seconds between two looks at a lock
_waited = 0.0  # since the last lock that this process has got

_COMPILED = re.compile(rb"^(?:from|import) (?:numba|slipform\.pipelines\.kernel)\b", re.MULTILINE)


def kernel(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Compile a function with numba. A decorator, with or without options.

    Args:
        function: The function.
        **options: Options of numba.njit: fastmath, ...

    Returns:
        The compiled function (numba's dispatcher), or a decorator if only options are given.
    """
    if function is None:
        return lambda f: kernel(f, **options)
    dispatcher = njit(nogil=True, boundscheck=False, error_model="numpy", **options)(function)
    dispatcher._cache = _Cache(function)
    return dispatcher


def is_compiled(function: Any) -> bool:
    """Whether a kernel was compiled: in this process, or by an earlier one, which wrote the cache.

    Args:
        function: What `kernel` returned.
    """
    return bool(function.signatures) or function._cache.has_code()


def _compiled_sources(folder: Path) -> list[Path]:
    """The files below `folder` that define compiled code, sorted."""
    return [path for path in sorted(folder.rglob("*.py")) if _COMPILED.search(path.read_bytes())]


@cache
def _stamp() -> str:
    """A hash of the names and contents of all compiled sources."""
    folder, stamp = Path(__file__).parent, hashlib.sha256()
    for path in _compiled_sources(folder):
        content = path.read_bytes()
        stamp.update(f"{path.relative_to(folder)} {len(content)}\n".encode() + content)
    return stamp.hexdigest()


def _is_ours(path: Path) -> bool:
    """Whether this user owns a path and no other user may write to it."""
    state = os.lstat(path)
    return state.st_uid == os.getuid() and not state.st_mode & 0o022


def _is_private(folder: Path) -> bool:
    """Whether a cache folder and the folders around it in `cache_folder` are this user's alone.

    The owner of a parent folder could replace the folder after the check.
    """
    return all(map(is_own, _around(folder))) and _is_ours(folder)


def _around(folder: Path) -> list[Path]:
    """The parents of a folder that are in `cache_folder`, or are that folder. The outermost is
    first."""
    root = cache_folder()
    return [path for path in reversed(folder.parents) if path == root or root in path.parents]


@cache
def _place(source_folder: Path) -> Path:
    """The cache folder for the functions of a source folder."""
    beside = source_folder / "__pycache__"
    existing = beside if beside.exists() else source_folder
    if _is_ours(source_folder) and _is_ours(existing) and os.access(existing, os.W_OK):
        return beside
    name = hashlib.sha256(str(source_folder).encode(errors="surrogateescape")).hexdigest()[:16]
    return cache_folder() / "kernels" / name


class _Locator:
    """Tells numba where the cache is. It writes nothing before a function is saved."""

    def __init__(self, function: Callable[..., Any], file: str) -> None:
        self._line, self.folder = function.__code__.co_firstlineno, _place(Path(file).parent)

    @classmethod
    def from_function(cls, function: Callable[..., Any], file: str) -> _Locator:
        return cls(function, os.path.realpath(file))

    def get_cache_path(self) -> str:
        return str(self.folder)

    def get_source_stamp(self) -> str:
        return _stamp()

    def get_disambiguator(self) -> str:
        return str(self._line)

    def ensure_cache_path(self) -> None:
        for folder in (*_around(self.folder), self.folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)


class _Impl(FunctionCache._impl_class):  # type: ignore[misc]
    _locator_classes = (_Locator,)


class _Files(IndexDataCacheFile):  # type: ignore[misc]
    """numba's files of one function: an index, and a file of code for each signature.

    numba numbers the files. Two processes that compile different signatures would choose the same
    number, and the index of one would name the code of the other. The names here are random.
    """

    def save(self, key: Any, data: Any) -> None:
        folder = Path(self._cache_path)
        with _alone(folder):
            super().save(key, data)
            used = set(self._load_index().values())
            beginning = self._data_name_pattern.partition("{")[0]
            for name in os.listdir(folder):
                if name.startswith(beginning) and name.endswith(".nbc") and name not in used:
                    (folder / name).unlink(missing_ok=True)  # of an older source

    def _load_index(self) -> Any:
        try:
            return super()._load_index()
        except (AttributeError, ImportError):
            return {}  # of an older source: it names a class that is gone

    def _data_name(self, number: int) -> str:
        return str(super()._data_name(secrets.randbits(60)))


class _Cache(FunctionCache):  # type: ignore[misc]
    """numba's cache. It ignores folders of other users, and its errors do not end a run."""

    _impl_class = _Impl

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        stamp = self._impl.locator.get_source_stamp()
        self._cache_file = _Files(self._cache_path, self._impl.filename_base, stamp)

    def has_code(self) -> bool:
        """Whether the cache holds code of the function as it is now, and can be used."""
        try:
            return _is_private(Path(self._cache_path)) and bool(self._cache_file._load_index())
        except Exception:  # as in load_overload, which warns
            return False

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        folder = Path(self._cache_path)
        try:
            if not _is_private(folder):
                _warn(folder, "it belongs to another user, or others may write to it")
                return None
            return super().load_overload(sig, target_context)
        except FileNotFoundError:
            return None
        except Exception as error:  # numba raises many classes of exceptions for damaged files
            _warn(folder, f"it cannot be read: {error}")
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        folder = Path(self._cache_path)
        try:
            self._impl.locator.ensure_cache_path()
            if _is_private(folder):
                super().save_overload(sig, data)
        except Exception as error:  # as in load_overload: the index may be damaged
            _warn(folder, str(getattr(error, "strerror", None) or error))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process at a time run the block, if the file system has locks and nobody keeps them.

    Without a lock an entry of the index may be lost. Its signature is then compiled again.

    Args:
        folder: The cache folder.
    """
    with ExitStack() as stack:
        with suppress(OSError):  # the block finds out whether the folder can be written
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            handle = os.open(folder / "kernels.lock", flags, 0o600)
            stack.callback(os.close, handle)
            if _try_to_lock(handle):
                # A child that another thread forks meanwhile has the open file, too, and keeps the
                # lock after `close`.
                stack.callback(fcntl.flock, handle, fcntl.LOCK_UN)
        yield


def _try_to_lock(handle: int) -> bool:
    """Wait for a lock, `_LONGEST_WAIT` at most. After a wait in vain, the next ones do not wait."""
    global _waited
    while True:
        with suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _waited = 0.0
            return True
        if _waited >= _LONGEST_WAIT:
            return False
        time.sleep(_LOOK)
        _waited += _LOOK


@cache
def _warn(folder: Path, why: str) -> None:
    warnings.warn(
        f"compiled kernels are not cached in {folder}: {why}. Each process compiles them again,"
        " which takes about a minute. Remove the folder, free space, or set XDG_CACHE_HOME to a"
        " folder of your own.",
        RuntimeWarning,
        stacklevel=2,
    )
