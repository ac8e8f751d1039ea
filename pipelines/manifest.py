"""dataset.json: the manifest of a dataset folder, written by `prep`.

In: a dataset folder. Out: a frozen `Manifest`. `prep` writes dataset.json last, so a folder without
one is not a complete dataset.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from slipform.pipelines.errors import (
    DatasetError,
    MissingObjectError,
    nearest,
    nearest_path,
    printable,
)
from slipform.pipelines.files import open_regular, write_whole
from slipform.pipelines.label_table import LabelKind
from slipform.pipelines.remote.agreed import agreed
from slipform.pipelines.remote.client import checked_url, is_remote, meant_url
from slipform.pipelines.remote.nearby import nearby
from slipform.pipelines.remote.store import Store, open_store

__all__ = [
    "FILE_NAME", "BetonInfo", "Manifest", "SplitInfo",
    "download_manifest", "parse_manifest", "read_manifest", "write_manifest",
]  # fmt: skip

FILE_NAME = "dataset.json"
_VERSION = 1
_MAX_BYTES = 256 << 20  # of dataset.json


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class BetonInfo(_Strict):
    """What the manifest says about one beton and the files beside it.

    Attributes:
        file: Name of the beton.
        num_samples: Number of samples.
        bytes: Size of the beton in bytes.
        sha256: SHA-256 of the beton, in hex.
        names_sha256: SHA-256 of the file with the names of the samples, in hex. "": no such file.
        index_sha256: `checksums.index_sha256` of labels and checksums. "": unknown.
        labels_sha256: SHA-256 of the label table, in hex. "": each image has one label.
    """

    file: str
    num_samples: int = Field(ge=0)
    bytes: int = Field(ge=0)
    sha256: str
    names_sha256: str = ""
    index_sha256: str = ""
    labels_sha256: str = ""

    @property
    def files(self) -> Sequence[BetonInfo]:
        """The betons, in the order of their samples: this one."""
        return [self]


class SplitInfo(BetonInfo):
    """What the manifest says about one split.

    The split is one beton, or several: its shards. With shards, the hashes of names, labels and
    index are those of one beton with the same samples. `bytes` is the sum, and `sha256` the SHA-256
    of the lines of all shards' `sha256`.

    Attributes:
        file: Name of the beton. With shards: "".
        counts: Images per class, in the order of `Manifest.classes`, by the label in the beton.
        modes: Samples by how they are stored: {"jpg": 5784, "raw": 0}.
        min_height, min_width, max_height, max_width: Smallest and largest sides in pixels.
        label_counts: `LabelTable.class_counts`. Empty: each image has one label.
        shards: The betons of the split, in the order of their samples. Empty: it is `file`.
    """

    counts: list[int]
    modes: dict[str, int]
    min_height: int
    min_width: int
    max_height: int
    max_width: int
    label_counts: list[int] = []
    shards: list[BetonInfo] = []

    @property
    def files(self) -> Sequence[BetonInfo]:
        """The betons of the split, in the order of their samples."""
        return self.shards or [self]


_Share = Annotated[float, Field(ge=0, le=1)]


class Manifest(_Strict):
    """What `prep` says about a dataset folder. `read_manifest` reads it.

    Attributes:
        version: Version of the format, 1.
        dataset: Name of the dataset: "caltech101".
        options: The options of prep, by name.
        classes: Names of the classes. A label is a position in this list.
        labels: "single": an image has one label. "multi": it has any number of labels. "soft": it
            has a share of each class. See `label_table`.
        splits: SplitInfo by name: "train", "val" and "test".
        mean, std: Mean and standard deviation per channel (R, G, B), in 0..1, over the pixels of
            the train split.
        split_rule: How the splits were made, in words.
        converted: Number of converted images by reason: {"cmyk": 3, "exif rotation": 1}.
        rejected: Number of images that were left out.
        damaged: Number of images that were stored although their decoder warns. report.txt names
            them.
        account: The lines that prep printed before it wrote.

    Example:
        >>> import slipform as sf
        >>> manifest = sf.read_manifest("data/shapes")
        >>> manifest.num_classes, manifest.split("train").num_samples
        (6, 240)
    """

    version: int = _VERSION
    dataset: str
    options: dict[str, Any] = {}
    classes: list[str]
    labels: LabelKind = "single"
    splits: dict[str, SplitInfo]
    mean: list[_Share] = Field(min_length=3, max_length=3)
    std: list[_Share] = Field(min_length=3, max_length=3)
    split_rule: str = ""
    converted: dict[str, int] = {}
    rejected: int = 0
    damaged: int = 0
    account: list[str] = []

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not self.classes or len(set(self.classes)) < len(self.classes):
            raise ValueError("there is no class, or two classes have the same name")
        "".join(self.classes).encode()  # raises UnicodeError, a ValueError, for a lone surrogate
        for name, info in self.splits.items():
            for one in info.files:
                if not one.file or Path(one.file).name != one.file:
                    raise ValueError(f"{one.file!r} of {name} is not a file in this folder")
            if info.shards and (info.file or len({s.file for s in info.shards}) < len(info.shards)):
                raise ValueError(f"the shards of {name} are not files of their own")
            if sum(one.num_samples for one in info.files) != info.num_samples:
                raise ValueError(f"the shards of {name} do not add up to its samples")
            if len(info.counts) != len(self.classes) or min(info.counts) < 0:
                raise ValueError(f"the counts of {name} do not fit the classes")
            if sum(info.counts) != info.num_samples:
                raise ValueError(f"the counts of {name} do not add up to its samples")
            if len(info.label_counts) != (0 if self.labels == "single" else len(self.classes)):
                raise ValueError(f"the label counts of {name} do not fit the classes")
        return self

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.classes)

    def split(self, name: str) -> SplitInfo:
        """What the manifest says about a split.

        Args:
            name: "train", "val" or "test".

        Returns:
            Its SplitInfo.

        Raises:
            DatasetError: The dataset has no such split.
        """
        if name not in self.splits:
            raise DatasetError(
                f'no split "{name}" in this dataset.{nearest(name, self.splits)} It has:'
                f" {', '.join(self.splits)}."
            )
        return self.splits[name]


def read_manifest(folder: Path | str) -> Manifest:
    """Read and check `folder`/dataset.json.

    Args:
        folder: A dataset folder that `prep` wrote, or its URL in an object store.

    Returns:
        The manifest.

    Raises:
        DatasetError: There is no complete dataset in the folder, or the file is damaged.
        StorageError: The object store cannot be read.

    Example:
        >>> import slipform as sf
        >>> sf.read_manifest("data/shapes").classes[0]
        'cross'
    """
    if is_remote(folder):
        store = open_store(str(folder))
        return parse_manifest(download_manifest(store), f"{store.url}/{FILE_NAME}")
    path = Path(folder) / FILE_NAME
    if not Path(folder).is_dir():
        if url := meant_url(folder):
            raise DatasetError(f"{folder} is not a folder. Did you mean {checked_url(url)}?")
        make = f" Make a dataset first, for example: prep shapes --out {folder}"
        raise DatasetError(f"{folder} is not a folder.{nearest_path(folder, FILE_NAME) or make}")
    if not path.exists():
        raise DatasetError(
            f"{folder} holds no {FILE_NAME}: it is not a dataset that prep finished. If it has one"
            f" folder of images per class, run: prep images --source {folder} --out data/NAME. If"
            " prep was interrupted here, run the same command again"
        )
    with open_regular(path, DatasetError) as file:
        content = file.read(_MAX_BYTES + 1)
    return parse_manifest(content, path)


def download_manifest(store: Store) -> bytes:
    """Read dataset.json from an object store.

    Args:
        store: The folder of the dataset.

    Raises:
        MissingObjectError: There is none.
        StorageError: It cannot be read.
    """
    place = f"{store.url}/{FILE_NAME}"
    try:
        return agreed(lambda: store.read(FILE_NAME, _MAX_BYTES), place)
    except MissingObjectError:
        raise MissingObjectError(f"{place} does not exist{store.server}. {nearby(store)}") from None


def parse_manifest(content: bytes, path: Path | str) -> Manifest:
    """Parse and check the content of dataset.json.

    Args:
        content: The bytes of the file.
        path: Its path or URL, for messages.

    Raises:
        DatasetError: It is damaged, or has another version.
    """
    try:
        if len(content) > _MAX_BYTES:
            raise ValueError(f"more than {_MAX_BYTES >> 20} MiB")
        manifest = Manifest.model_validate(json.loads(content.decode("utf-8")))
    # Errors of json, pydantic and UTF-8 are ValueErrors.
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path} is damaged ({_reason(error)}). Run prep again.") from error
    if manifest.version != _VERSION:
        raise DatasetError(
            f"{path} has version {manifest.version}, this program reads {_VERSION}. Run prep again."
        )
    return manifest


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return printable(f"{place}: {first['msg']}" if place else first["msg"])
    return str(error).splitlines()[0]


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `folder`/dataset.json whole or not at all.

    Args:
        folder: An existing folder.
        manifest: The content.

    Raises:
        OSError: The write failed.
    """
    text = json.dumps(manifest.model_dump(), indent=1, ensure_ascii=False) + "\n"
    write_whole(Path(folder) / FILE_NAME, text)
