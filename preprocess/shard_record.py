"""The record of a finished shard: shard-00003-of-00008.json, written after its betons.

In: a dataset folder. Out: a frozen `ShardRecord`: what the manifest and the reports need to know
about the shard, and from what it was made. A shard without a record is not finished.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from slipform.pipelines.beton import Beton
from slipform.pipelines.beton_format import JPG, RAW
from slipform.pipelines.dataset import open_split, open_table
from slipform.pipelines.errors import ConfigError, DatasetError, printable
from slipform.pipelines.manifest import Manifest, SplitInfo
from slipform.pipelines.sample_names import read_names
from slipform.preprocess.places import Place

__all__ = [
    "HIDDEN",
    "NamedSample",
    "Shard",
    "ShardRecord",
    "check_files",
    "check_tables",
    "read_record",
    "shards_of",
]

HIDDEN = ".shard-"  # the begin of the names of all folders for unfinished files
_MOST = 99_999  # shards: the names of the files have five digits
_MAX_BYTES = 1 << 30  # of a record
_NAME = re.compile(r"shard-(\d{5})-of-(\d{5})\.json")

_Channels = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=3, max_length=3)]


@dataclass(frozen=True)
class Shard:
    """One of the parts in which a dataset is written.

    Attributes:
        number: 1 to `count`.
        count: The number of shards of each split.

    Raises:
        ConfigError: There is no such shard.

    Example:
        >>> from slipform.preprocess.shard_record import Shard
        >>> Shard.parse("3/8").file("train")
        'train-00003-of-00008.beton'
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count <= _MOST:
            raise ConfigError(
                f"there is no shard {self.number}/{self.count}: give K/N, where N is the number of"
                f" shards (1 to {_MOST:,}), and K is 1 to N"
            )

    @staticmethod
    def parse(text: str) -> Shard:
        """Read a text such as "3/8".

        Args:
            text: The number of the shard, from 1, and the number of shards.

        Raises:
            ConfigError: It is another text, or there is no such shard.
        """
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        if found is None:
            raise ConfigError(f'shard = "{text}": give K/N, such as 3/8 for the third of 8 shards')
        return Shard(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def file(self, split: str) -> str:
        """The name of its beton.

        Args:
            split: "train", "val" or "test".
        """
        return f"{split}-{self.number:05d}-of-{self.count:05d}.beton"

    @property
    def record(self) -> str:
        """The name of its record."""
        return f"shard-{self.number:05d}-of-{self.count:05d}.json"

    @property
    def hidden(self) -> str:
        """The begin of the name of the folder for its files that are not finished."""
        return f"{HIDDEN}{self.number:05d}-of-{self.count:05d}."


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class NamedSample(_Strict):
    """A sample that the reports name; see `encode.Rejected`."""

    split: str
    index: int
    label: int
    name: str
    reason: str


class ShardRecord(_Strict):
    """What is known of a finished shard.

    Attributes:
        slipform: The version of the program.
        source_sha256: The hash of the list of all samples of all shards.
        how: The options of prep that change what is stored.
        number, count: See `Shard`.
        manifest: The manifest of this shard alone.
        left_out: Path and reason of each file of the source that was not taken as an image.
        rejected, damaged: As in `Written`.
        num_pixels, sums, squares: The `PixelSums` of the shard.
    """

    slipform: str
    source_sha256: str
    how: dict[str, Any]
    number: int
    count: int
    manifest: Manifest
    left_out: list[tuple[str, str]] = []
    rejected: list[NamedSample] = []
    damaged: list[NamedSample] = []
    num_pixels: int = Field(ge=0)
    sums: _Channels
    squares: _Channels

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if max(self.sums) > 255 * self.num_pixels or max(self.squares) > 255**2 * self.num_pixels:
            raise ValueError("its pixels do not have this sum")
        return self

    @property
    def shard(self) -> Shard:
        """Which shard it is."""
        return Shard(self.number, self.count)

    def difference(self, other: ShardRecord) -> str:
        """Why two shards do not belong to one dataset; "" if they do.

        Args:
            other: Another shard.
        """
        a, b = self.manifest, other.manifest
        ours, theirs = ({**one.manifest.options, **one.how} for one in (self, other))
        changed = [
            printable(f"{name} = {ours.get(name)} and {theirs.get(name)}")
            for name in sorted({*ours, *theirs})
            if ours.get(name) != theirs.get(name)
        ]
        options = "options" + "".join(f": {text}" for text in changed[:1])
        for what, one, two in (
            ("versions of slipform", self.slipform, other.slipform),
            ("numbers of shards", self.count, other.count),
            ("datasets", a.dataset, b.dataset),
            (options, (self.how, a.options), (other.how, b.options)),
            ("rules of the splits", a.split_rule, b.split_rule),
            ("classes", (a.classes, a.labels), (b.classes, b.labels)),
            ("lists of images", self.source_sha256, other.source_sha256),
            ("splits", list(a.splits), list(b.splits)),
        ):
            if one != two:
                return f"other {what}"
        return ""


def shards_of(names: Iterable[str]) -> list[Shard]:
    """The shards that have a record, in their order.

    Args:
        names: The names of the files in a dataset folder.
    """
    matches = [match for name in names if (match := _NAME.fullmatch(name))]
    found = [Shard(int(match[1]), int(match[2])) for match in matches]
    return sorted(found, key=lambda shard: (shard.count, shard.number))


def read_record(place: Place, shard: Shard) -> ShardRecord:
    """Read the record of a shard.

    Args:
        place: The dataset folder.
        shard: The shard.

    Raises:
        DatasetError: It does not exist, or is damaged.
        StorageError: It cannot be read from an object store.
    """
    path = f"{place}/{shard.record}"
    content = place.read(shard.record, _MAX_BYTES, "the record of a shard")
    try:
        record = ShardRecord.model_validate_json(content)
        found = record.shard  # it raises if there is no such shard
    except (ValueError, ConfigError) as error:
        raise DatasetError(
            f"{path} is damaged. Delete it, and run prep again for this shard."
        ) from error
    if found != shard:
        raise DatasetError(f"{path} is the record of shard {found}. Delete it.")
    return record


def check_files(place: Place, manifest: Manifest) -> None:
    """Check that the betons and the files beside them are those that the manifest describes.

    In an object store, the sizes and the tables are compared, and no image is read.

    Args:
        place: The dataset folder.
        manifest: The manifest of a shard.

    Raises:
        DatasetError: A file is missing or is another one, or the manifest has other counts.
        StorageError: The object store cannot be read.
    """
    with place.tables(manifest) as folder:
        check_tables(folder, manifest)
    place.check_betons(one for info in manifest.splits.values() for one in info.files)


def check_tables(folder: Path, manifest: Manifest) -> None:
    """Check the tables of the betons, and the files beside them.

    Args:
        folder: The dataset folder, or one of `Place.tables`.
        manifest: The manifest of a shard.

    Raises:
        DatasetError: A file is missing or is another one, or the manifest has other counts.
    """
    for split, info in manifest.splits.items():
        _check_counts(open_split(folder, manifest, split), info)
        open_table(folder, manifest, split)
        read_names(folder, info)


def _check_counts(beton: Beton, info: SplitInfo) -> None:
    """Check all numbers of a record that follow from the table of its beton."""
    found = {
        "bytes": beton.path.stat().st_size,
        "counts": np.bincount(beton.labels, minlength=len(info.counts)).tolist(),
        "modes": {"jpg": int((beton.modes == JPG).sum()), "raw": int((beton.modes == RAW).sum())},
        "min_height": int(beton.heights.min()) if len(beton) else 0,
        "min_width": int(beton.widths.min()) if len(beton) else 0,
        "max_height": int(beton.heights.max(initial=0)),
        "max_width": int(beton.widths.max(initial=0)),
    }
    for name, value in found.items():
        if getattr(info, name) != value:
            raise DatasetError(
                f"the record of {beton.path} says {name} = {getattr(info, name)}, and the file has"
                f" {value}. Delete the record, and run prep again for this shard."
            )
