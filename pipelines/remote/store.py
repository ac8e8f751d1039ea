"""A folder of an object store: `open_store("s3://bucket/data")`.

In: the URL of the folder, and names of objects in it. Out: their bytes, or a `StorageError` after
repeated requests. The texts of errors hold no credentials.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sized
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

from slipform.pipelines.errors import DatasetError, MissingObjectError
from slipform.pipelines.remote.client import (
    checked_url,
    client_of,
    create,
    endpoint_of,
    usual_patience,
)
from slipform.pipelines.remote.counted_file import CountedFile
from slipform.pipelines.remote.repeated import Request, repeated

__all__ = ["Store", "open_store"]

_MAX_READ = 256 << 20  # bytes of an object that `read` takes into memory
_PART, _PARTS_AT_ONCE, _MAX_PARTS = 8 << 20, 4, 9000  # of an upload; S3 has at most 10,000 parts
_PIECE = 16 << 20  # bytes of a request: a larger one may not end in time on a slow line

_T = TypeVar("_T")
_Content = TypeVar("_Content", bound=Sized)


def open_store(url: str, *, patience: float | None = None) -> Store:
    """Open a folder of an object store. Nothing is requested yet.

    Args:
        url: s3://BUCKET/FOLDER, gs://BUCKET/FOLDER, az://CONTAINER/FOLDER, http://HOST/FOLDER or
            https://HOST/FOLDER. s3 also reaches other servers with that protocol, which
            AWS_ENDPOINT_URL names.
        patience: Seconds in which failed requests are repeated. None: those of the environment
            variable SLIPFORM_STORAGE_PATIENCE, or 60.

    Returns:
        The store. All threads of this process may use it together.

    Raises:
        ConfigError: The URL has no such form, or has a user name, a password or a query.
        StorageError: obstore is not installed, or the environment has wrong settings.
    """
    folder = checked_url(url)
    seconds = usual_patience() if patience is None else patience
    endpoint = endpoint_of(folder)
    return Store(client_of(folder, endpoint, seconds), folder, endpoint, seconds)


class Store:
    """A folder of an object store. `open_store` makes it. All threads may use it together.

    Args:
        client: The store of obstore.
        url: The URL of the folder, without credentials.
        endpoint: The server of s3://, as http://HOST:PORT. "": the usual one.
        patience: Seconds in which failed requests are repeated.

    Attributes:
        url: The URL of the folder.
        server: The server of s3:// in parentheses, for texts of errors; "": the usual one.
        identity: What tells this folder from others: its URL and the server. No credentials.
    """

    def __init__(self, client: Any, url: str, endpoint: str, patience: float) -> None:
        self._client, self._endpoint, self._patience = client, endpoint, patience
        self.url, self.server = url, f" (server: {endpoint})" if endpoint else ""
        self.identity = f"{url} at {endpoint}" if endpoint else url

    def __repr__(self) -> str:
        return f"Store({self.identity!r})"

    @cached_property
    def _sender(self) -> Any:
        """The client for uploads of files."""
        return client_of(self.url, self._endpoint, self._patience, sending=True)

    def read(self, name: str, limit: int = _MAX_READ) -> bytes:
        """Read a small object whole.

        Args:
            name: Its name in the folder: "dataset.json".
            limit: The size of the largest correct object, in bytes.

        Raises:
            MissingObjectError: There is no such object.
            DatasetError: It is larger than `limit`.
            StorageError: It cannot be read.
        """
        if (size := self.size(name)) > limit:
            raise DatasetError(
                f"{self.url}/{name} has {size:,} bytes. At most {limit:,} are expected."
            )
        return bytes(self.read_range(name, 0, size))

    def read_range(self, name: str, start: int, end: int) -> memoryview:
        """Read some bytes of an object, exactly those that were asked for.

        Args:
            name: Its name in the folder.
            start, end: Positions of the first byte, and of the byte behind the last.

        Raises:
            MissingObjectError: There is no such object.
            StorageError: The bytes cannot be read, or the object has fewer.
        """
        if end - start > _PIECE:
            starts = range(start, end, _PIECE)
            pieces = (self.read_range(name, at, min(at + _PIECE, end)) for at in starts)
            return memoryview(b"".join(pieces))
        if end <= start:
            return memoryview(b"")

        def once() -> memoryview:
            found = memoryview(self._client.get_range(name, start=start, end=end))
            return _whole(found, end - start)

        return self._tried(once, "GET", name, f", bytes {start} to {end},")

    def size(self, name: str) -> int:
        """The size of an object in bytes.

        Args:
            name: Its name in the folder.

        Raises:
            MissingObjectError: There is no such object.
            StorageError: The server does not answer.
        """
        return int(self._tried(lambda: self._client.head(name)["size"], "HEAD", name))

    def names(self, prefix: str = "") -> list[str]:
        """The names of the objects in the folder and in folders below it, sorted.

        Args:
            prefix: The first characters of the names.

        Raises:
            StorageError: The server does not answer, or cannot list. Most http servers cannot.
        """
        return sorted(name for name in self.sizes() if name.startswith(prefix))

    def contents(self) -> tuple[list[str], list[str]]:
        """The names of the folders and of the objects directly in the folder, sorted.

        Raises:
            StorageError: As for `names`.
        """

        def once() -> tuple[list[str], list[str]]:
            found = self._client.list_with_delimiter()
            return sorted(found["common_prefixes"]), sorted(one["path"] for one in found["objects"])

        return self._tried(once, "LIST")

    def sizes(self) -> dict[str, int]:
        """The sizes in bytes of the objects in the folder and in folders below it, by name.

        Raises:
            StorageError: As for `names`.
        """

        def once() -> dict[str, int]:
            pages = self._client.list()
            return {found["path"]: found["size"] for page in pages for found in page}

        return self._tried(once, "LIST")

    def put(self, name: str, content: bytes) -> None:
        """Write an object whole or not at all. It replaces one with the same name.

        Args:
            name: Its name in the folder.
            content: Its bytes.

        Raises:
            StorageError: It cannot be written.
        """
        self._tried(lambda: self._client.put(name, content), "PUT", name)

    def create(self, name: str, content: bytes) -> bool:
        """Write an object whole, if there is none with this name.

        Args:
            name, content: As for `put`.

        Returns:
            Whether it was written. False, too, if an earlier try has written it unnoticed.

        Raises:
            StorageError: It cannot be written.
        """
        return self._tried(lambda: create(self._client, name, content), "PUT", name)

    def put_file(
        self, name: str, path: Path, progress: Callable[[int], None] = lambda num_bytes: None
    ) -> None:
        """Write a file as an object, whole or not at all. Large files are sent in parts.

        Args:
            name: The name of the object in the folder.
            path: The file.
            progress: Called with the number of bytes that were read from the file since the last
                call. It is negative if they are sent again.

        Raises:
            StorageError: It cannot be written, or the object has another size than the file.
            OSError: The file cannot be read.
        """
        size = path.stat().st_size
        part = max(_PART, -(-size // _MAX_PARTS))

        def once() -> None:
            with CountedFile(path, progress) as file:
                try:
                    self._sender.put(
                        name,
                        file,
                        use_multipart=size > part,
                        chunk_size=part,
                        max_concurrency=_PARTS_AT_ONCE,
                    )
                    _whole(range(self._client.head(name)["size"]), size)
                except BaseException:
                    progress(-file.count)
                    raise

        self._tried(once, "PUT", name)

    def get_file(
        self, name: str, path: Path, progress: Callable[[int], None] = lambda num_bytes: None
    ) -> None:
        """Copy an object to a new file.

        Args:
            name: The name of the object in the folder.
            path: The file.
            progress: Called with the number of bytes that were written since the last call.

        Raises:
            MissingObjectError: There is no such object.
            StorageError: It cannot be read.
            OSError: The disk is full or fails.
        """
        size = self.size(name)
        with open(path, "xb") as file:
            for start in range(0, size, _PIECE):
                progress(file.write(self.read_range(name, start, min(start + _PIECE, size))))

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects. Names without an object are ignored.

        Args:
            names: Their names in the folder.

        Raises:
            StorageError: They cannot be deleted.
        """
        for name in names:
            with suppress(MissingObjectError):
                self._tried(partial(self._client.delete, name), "DELETE", name)

    def _tried(self, once: Callable[[], _T], verb: str, name: str = "", what: str = "") -> _T:
        request = Request(verb, self.url, self.server, name, what)
        return repeated(once, request, self._patience)


def _whole(content: _Content, expected: int) -> _Content:
    """The content, if it has the expected length."""
    if len(content) != expected:
        raise _WrongLength(f"{len(content):,} bytes instead of {expected:,}")
    return content


class _WrongLength(Exception):
    """A body was cut off, or an object has another length."""
