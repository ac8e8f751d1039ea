"""A dataset folder on a disk, as a place to write to.

In: the path. Out: `LocalFolder`. Files get their final names by renaming, whole or not at all.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from slipform.pipelines.errors import DatasetError
from slipform.pipelines.files import read_regular, sync_folder
from slipform.pipelines.machine import num_cores
from slipform.pipelines.manifest import BetonInfo, Manifest, read_manifest
from slipform.pipelines.together import together
from slipform.preprocess.atomic_folder import replacing
from slipform.preprocess.temporary_folder import naming, remove_abandoned, temporary_folder

__all__ = ["LocalFolder"]


class LocalFolder:
    """A dataset folder on a disk.

    Args:
        folder: Its path.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __str__(self) -> str:
        return str(self._folder)

    def report_to(self, uploaded: Callable[[int, int], None]) -> None:
        """Nothing: no file is sent.

        Args:
            uploaded: It is not called.
        """

    def names(self) -> list[str]:
        """The names of the files; empty if the folder does not exist."""
        return os.listdir(self._folder) if self._folder.is_dir() else []

    def read(self, name: str, limit: int, contents: str) -> bytes:
        """Read a small file whole.

        Args:
            name: Its name.
            limit: The size of the largest correct file, in bytes.
            contents: What a correct file is for, for the message.

        Raises:
            DatasetError: The file does not exist, or is larger.
            OSError: It cannot be read.
        """
        return read_regular(self._folder / name, limit, contents, DatasetError)

    def manifest(self) -> Manifest:
        """The manifest of the dataset.

        Raises:
            DatasetError: There is no complete dataset.
        """
        return read_manifest(self._folder)

    def replacing(self) -> AbstractContextManager[Path]:
        """Give an empty folder, which becomes the dataset when the block ends; see `replacing`."""
        return replacing(self._folder)

    @contextmanager
    def temporary(self, prefix: str) -> Iterator[Path]:
        """Give an empty folder in this one, which is deleted after the block.

        Args:
            prefix: The begin of its name. Folders of this prefix that killed processes left are
                deleted first.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with temporary_folder(self._folder, prefix) as folder, naming(self._folder):
            yield folder

    def check_rights(self) -> None:
        """Nothing: making a temporary folder shows whether this user may write."""

    def claim(self, content: bytes) -> bytes:
        """Nothing: a merge finds files of another dataset by their SHA-256.

        Args:
            content: What all workers that write parts of one dataset have in common.

        Returns:
            `content`.
        """
        return content

    def add(self, folder: Path, last: str) -> None:
        """Move files into this folder, each whole or not at all.

        Args:
            folder: A temporary folder of this one, with files that are flushed to the disk.
            last: The name of the file that says that the others are complete.

        Raises:
            OSError: The disk fails.
        """
        for path in sorted(path for path in folder.iterdir() if path.name != last):
            os.replace(path, self._folder / path.name)
        sync_folder(self._folder)
        os.replace(folder / last, self._folder / last)
        sync_folder(self._folder)

    def tables(self, manifest: Manifest) -> AbstractContextManager[Path]:
        """Give a folder in which the betons can be opened, with the files beside them.

        Only the tables of the betons may be read there, not the images.

        Args:
            manifest: What the files are.
        """
        return _given(self._folder)

    def whole(self, file: BetonInfo) -> AbstractContextManager[Path]:
        """Give a folder with a whole beton and the files beside it.

        Args:
            file: The beton.
        """
        return _given(self._folder)

    def check_betons(self, files: Iterable[BetonInfo]) -> None:
        """Check that betons are those that prep wrote, by their SHA-256.

        Args:
            files: The betons.

        Raises:
            DatasetError: One of them is another file.
        """
        together(self._check, list(files), num_cores(), str(self))

    def _check(self, info: BetonInfo) -> None:
        with open(self._folder / info.file, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != info.sha256:
            raise DatasetError(
                f"{self._folder / info.file} is not the file that prep wrote: its SHA-256 differs."
                " Run prep again."
            )

    def remove_abandoned(self, prefix: str) -> None:
        """Delete the temporary folders that killed processes left.

        Args:
            prefix: The begin of their names.
        """
        remove_abandoned(self._folder, prefix)


@contextmanager
def _given(folder: Path) -> Iterator[Path]:
    yield folder
