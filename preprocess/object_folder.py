"""A dataset folder in an object store, as a place to write to.

In: its URL. Out: `ObjectFolder`. Files are written to a local temporary folder, and then uploaded
one by one. The last one, dataset.json or the record of a shard, makes them complete. An upload that
is interrupted is no dataset and no shard.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from slipform.pipelines.checksums import crc32_path
from slipform.pipelines.errors import DatasetError, printable
from slipform.pipelines.label_table import label_table_path
from slipform.pipelines.manifest import FILE_NAME, BetonInfo, Manifest, read_manifest
from slipform.pipelines.mirror.copy_index import copy_index
from slipform.pipelines.remote.agreed import agreed
from slipform.pipelines.remote.store import open_store
from slipform.pipelines.sample_names import names_path
from slipform.pipelines.together import together
from slipform.preprocess.atomic_folder import is_ours
from slipform.preprocess.claim import check_rights, make_claim, writer_of
from slipform.preprocess.replace_objects import Before, in_order, replace_objects, state_of
from slipform.preprocess.temporary_folder import naming, temporary_folder

__all__ = ["ObjectFolder"]

_PREFIX = "slipform-upload-"  # of temporary folders
_AT_ONCE = 8  # small objects that are read together


class ObjectFolder:
    """A dataset folder in an object store.

    Args:
        url: s3://BUCKET/FOLDER and the like; see `open_store`.
        overwrite: Whether `replacing` may delete what is there.

    Raises:
        ConfigError: The URL has a form that is not allowed.
        StorageError: The store cannot be opened.
    """

    def __init__(self, url: str, *, overwrite: bool = False) -> None:
        self._store, self._overwrite = open_store(url), overwrite
        self._uploaded: Callable[[int, int], None] = lambda num_bytes, total: None

    def __str__(self) -> str:
        return self._store.url

    def report_to(self, uploaded: Callable[[int, int], None]) -> None:
        """Report the progress of uploads.

        Args:
            uploaded: Called with the number of bytes that were sent since the last call (negative:
                they are sent again), and with the number of all bytes to send.
        """
        self._uploaded = uploaded

    def names(self) -> list[str]:
        """The names of the objects."""
        return self._store.names()

    def read(self, name: str, limit: int, contents: str) -> bytes:
        """Read a small object whole. No checksum covers it, so it is read until two answers agree.

        Args:
            name: Its name.
            limit: The size of the largest correct object, in bytes.
            contents: What a correct object is for.

        Raises:
            StorageError: The object does not exist, or cannot be read.
            DatasetError: It is larger.
        """
        return agreed(lambda: self._store.read(name, limit), f"{self}/{name}")

    def manifest(self) -> Manifest:
        """The manifest of the dataset.

        Raises:
            StorageError: There is no complete dataset, or it cannot be read.
            DatasetError: The manifest is damaged.
        """
        return read_manifest(self._store.url)

    @contextmanager
    def replacing(self) -> Iterator[Path]:
        """Give an empty folder, which is uploaded when the block ends without an exception.

        If the block raises, the store is unchanged. If the upload fails, there is no dataset. Of
        several preps at the same time, one uploads, and the others end with an error.

        Yields:
            A temporary folder.

        Raises:
            DatasetError: There are objects already, and they may not be replaced.
            StorageError: The upload failed.
        """
        before = self._replaceable()
        check_rights(self._store, deletes=True)
        with self.temporary(_PREFIX) as folder:
            yield folder
            replace_objects(self._store, before, folder, self._send)

    def _replaceable(self) -> Before:
        """What is replaced."""
        before = state_of(self._store)
        if foreign := sorted(name for name in before.names if not is_ours(name)):
            raise DatasetError(
                f"{self} holds {printable(', '.join(foreign[:5]))}, which prep did not write."
                " Choose another folder for --out."
            )
        if not before.names or self._overwrite:
            return before
        if writer := writer_of(before.claim or b""):
            raise DatasetError(
                f"another prep is uploading to {self}, or was interrupted: {writer}. Wait for it."
                " If it has ended, add --overwrite to delete first what it left."
            )
        what = "a dataset" if FILE_NAME in before.names else "shards, or an interrupted upload"
        raise DatasetError(
            f"{self} holds {what}. Add --overwrite to delete it first, or choose another folder"
            " for --out."
        )

    @contextmanager
    def temporary(self, prefix: str) -> Iterator[Path]:
        """Give an empty local folder, which is deleted after the block. TMPDIR says where.

        Args:
            prefix: It has no effect.
        """
        with (
            temporary_folder(Path(tempfile.gettempdir()), _PREFIX) as folder,
            naming(f"{folder} (TMPDIR can name another disk)"),
        ):
            yield folder

    def check_rights(self) -> None:
        """Check that objects can be written.

        Raises:
            StorageError: They cannot.
        """
        check_rights(self._store, deletes=False)

    def claim(self, content: bytes) -> bytes:
        """Say what is written here, before `add`.

        Args:
            content: What all workers that write parts of one dataset have in common.

        Returns:
            What the first one of all has said.

        Raises:
            StorageError: The object store cannot be read or written.
        """
        return make_claim(self._store, content)

    def add(self, folder: Path, last: str) -> None:
        """Upload files, each whole or not at all.

        Args:
            folder: The folder with the files.
            last: The name of the file that says that the others are complete. It is sent last.

        Raises:
            StorageError: The upload failed.
        """
        paths = in_order(folder, last)
        total = sum(path.stat().st_size for path in paths)
        for path in paths:
            self._send(path, total)

    def _send(self, path: Path, total: int) -> None:
        self._store.put_file(path.name, path, lambda num_bytes: self._uploaded(num_bytes, total))

    @contextmanager
    def tables(self, manifest: Manifest) -> Iterator[Path]:
        """Give a folder in which the betons can be opened, with the files beside them.

        Only the tables of the betons are there: the images are holes. So little is read.

        Args:
            manifest: What the files are.

        Raises:
            StorageError: An object cannot be read.
            DatasetError: A beton has another size, or, in the block, a table is wrong.
        """
        files = [one for info in manifest.splits.values() for one in info.files]
        sizes = self._store.sizes()
        with self._named() as folder:

            def copy(file: BetonInfo) -> None:
                self._check_size(file, sizes)
                copy_index(self._store, file, folder / file.file)
                self._copy_beside(file, sizes, folder)

            together(copy, files, _AT_ONCE, str(self))
            yield folder

    @contextmanager
    def whole(self, file: BetonInfo) -> Iterator[Path]:
        """Give a folder with a whole beton and the files beside it. They are deleted afterwards.

        Args:
            file: The beton.

        Raises:
            StorageError: An object cannot be read.
            DatasetError: The beton has another size.
        """
        sizes = self._store.sizes()
        with self._named() as folder:
            self._check_size(file, sizes)
            self._store.get_file(file.file, folder / file.file)
            self._copy_beside(file, sizes, folder)
            yield folder

    @contextmanager
    def _named(self) -> Iterator[Path]:
        """A temporary folder. In the texts of errors, the URL replaces its path."""
        with self.temporary(_PREFIX) as folder:
            try:
                yield folder
            except DatasetError as error:
                raise DatasetError(error.message.replace(str(folder), str(self))) from None

    def _copy_beside(self, file: BetonInfo, sizes: dict[str, int], folder: Path) -> None:
        """Copy the files beside a beton. Readers check which ones there must be."""
        beton = Path(file.file)
        for path in (crc32_path(beton), names_path(beton), label_table_path(beton)):
            if (size := sizes.get(path.name)) is not None:
                (folder / path.name).write_bytes(self._store.read_range(path.name, 0, size))

    def check_betons(self, files: Iterable[BetonInfo]) -> None:
        """Check that betons have the sizes that prep wrote. Their images are not read.

        Args:
            files: The betons.

        Raises:
            DatasetError: One of them is missing, or has another size.
            StorageError: The server does not answer.
        """
        sizes = self._store.sizes()
        for file in files:
            self._check_size(file, sizes)

    def _check_size(self, file: BetonInfo, sizes: dict[str, int]) -> None:
        size = sizes.get(file.file)
        if size != file.bytes:
            found = "does not exist" if size is None else f"has {size:,} bytes, not {file.bytes:,}"
            raise DatasetError(f"{self}/{file.file} {found}. Run prep again.")

    def remove_abandoned(self, prefix: str) -> None:
        """Nothing: no temporary folder is in the store.

        Args:
            prefix: It has no effect.
        """
