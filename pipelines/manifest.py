"""dataset.json: what `prep` says about the betons beside it.

In: a dataset folder. Out: a frozen `Manifest`. `prep` writes it last, so a folder without one is no
dataset.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from slipform.pipelines.errors import DatasetError, nearest
from slipform.pipelines.files import open_regular, write_whole

FILE_NAME = "dataset.json"
VERSION = 1
_MOST_BYTES = 256 << 20  # of dataset.json


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class SplitInfo(_Strict):
    """One beton. Sizes in pixels, `bytes` of the whole file, `counts` images per class in the order
    of `classes`."""

    file: str
    num_samples: int = Field(ge=0)
    counts: list[int]
    bytes: int = Field(ge=0)
    sha256: str
    modes: dict[str, int]  # {"jpg": 5784, "raw": 0}: samples stored each way
    min_height: int
    min_width: int
    max_height: int
    max_width: int
    names_sha256: str = ""  # of the file with the samples' names; "" in datasets without one


class Manifest(_Strict):
    """What `prep` says about a dataset folder; `read_manifest` reads it.

    Attributes:
        version: Of the format, 1.
        dataset: Its name, "caltech101".
        options: What prep was told, by the names of its options.
        classes: The names; a label is a position in this list.
        splits: SplitInfo by name, "train", "val" and "test".
        mean, std: Per channel (R, G, B) over all pixels of the train split, in 0..1.
        split_rule: How the splits were made, in words.
        converted: Reason -> images that could not stay as they were: {"cmyk": 3}.
        rejected: Images left out.
        damaged: Images kept although their decoder warns.
        account: The lines that prep printed before it wrote.

    Example:
        >>> import slipform as sf
        >>> manifest = sf.read_manifest("data/shapes")
        >>> manifest.num_classes, manifest.split("train").num_samples
        (6, 240)
    """

    version: int = VERSION
    dataset: str
    options: dict[str, Any] = {}
    classes: list[str]
    splits: dict[str, SplitInfo]
    mean: list[float] = Field(min_length=3, max_length=3)
    std: list[float] = Field(min_length=3, max_length=3)
    split_rule: str = ""
    converted: dict[
        str, int
    ] = {}  # reason -> images that could not stay as they were: {"cmyk": 3, "exif rotation": 1}
    rejected: int = 0
    damaged: int = 0  # stored, although their decoder warns; report.txt names them
    account: list[str] = []  # what prep said before it wrote

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def split(self, name: str) -> SplitInfo:
        """The split `name`, or a DatasetError that lists those there are."""
        if name not in self.splits:
            raise DatasetError(
                f'no split "{name}" in this dataset.{nearest(name, self.splits)} It has:'
                f" {', '.join(self.splits)}."
            )
        return self.splits[name]


def read_manifest(folder: Path | str) -> Manifest:
    """Read and check `folder`/dataset.json.

    Args:
        folder: A dataset folder that `prep` wrote.

    Raises:
        DatasetError: `prep` never finished writing there, or the file is damaged.

    Example:
        >>> import slipform as sf
        >>> sf.read_manifest("data/shapes").classes[0]
        'cross'
    """
    path = Path(folder) / FILE_NAME
    if not Path(folder).is_dir():
        raise DatasetError(
            f"{folder} is no folder. Make a dataset first, for example: prep shapes --out {folder}"
        )
    if not path.exists():
        raise DatasetError(
            f"{folder} holds no {FILE_NAME}: prep never finished writing there. Run: prep DATASET"
            f" --source DIR --out {folder}"
        )
    with open_regular(path, DatasetError) as file:
        content = file.read(_MOST_BYTES + 1)
    try:
        if len(content) > _MOST_BYTES:
            raise ValueError(f"more than {_MOST_BYTES >> 20} MiB")
        manifest = Manifest.model_validate(json.loads(content.decode("utf-8")))
    except (ValueError, RecursionError) as error:  # JSON's, pydantic's and UTF-8's are ValueErrors
        raise DatasetError(
            f"{path} is damaged ({str(error).splitlines()[0]}). Run prep again."
        ) from error
    if manifest.version != VERSION:
        raise DatasetError(
            f"{path} has version {manifest.version}, this program reads {VERSION}. Run prep again."
        )
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `folder`/dataset.json whole or not at all.

    Args:
        folder: An existing folder.
        manifest: What it says.

    Raises:
        OSError: What the disk said.
    """
    text = json.dumps(manifest.model_dump(), indent=1, ensure_ascii=False) + "\n"
    write_whole(Path(folder) / FILE_NAME, text)
