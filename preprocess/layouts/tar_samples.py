"""The samples of WebDataset tars.

In: tars. Out: `Rows`: labels, and where each image lies in its tar. Tars are read member by member,
as `archive` does, and may be hostile: nothing is unpacked, and no name in them is opened as a file.
"""

from __future__ import annotations

import json
import os
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from slipform.pipelines.decoding.image_file import ENDINGS
from slipform.pipelines.errors import ConfigError, DatasetError, printable, unknown
from slipform.pipelines.files import open_regular
from slipform.preprocess.archive import tar_members
from slipform.preprocess.compressed import blocks
from slipform.preprocess.layouts.contract import Hints
from slipform.preprocess.layouts.label_cells import as_label
from slipform.preprocess.layouts.label_names import Label
from slipform.preprocess.layouts.label_rows import Rows
from slipform.preprocess.layouts.list_columns import label_column
from slipform.preprocess.listing import Listing
from slipform.preprocess.splits import split_of_path

__all__ = ["holds_sample", "read_tars"]

_LABELS = ("cls", "json", "txt")  # the first one that a sample has is read
_MAX_LABEL_BYTES = 1 << 20
_MAX_IMAGE_BYTES = 1 << 30
_MAX_KEYS = 100  # of JSON objects, for an error


@dataclass(frozen=True)
class _Place:
    """Where a file lies in a tar."""

    tar: int
    start: int
    size: int
    name: str


@dataclass
class _Tars:
    """Images in tars.

    Attributes:
        root: A folder.
        names: The tars, as paths below it.
        places: Where each image lies.
        unpacked: The content of all compressed tars, one after the other, in a file without a name.
            It is closed with this object.
    """

    root: Path
    names: Sequence[str]
    places: list[_Place] = field(default_factory=list)
    unpacked: BinaryIO | None = None

    def name(self, index: int) -> str:
        """See `Store`."""
        place = self.places[index]
        return f"{self.names[place.tar]}:{place.name}"

    def read(self, index: int) -> bytes:
        """See `Store`."""
        place = self.places[index]
        if place.size > _MAX_IMAGE_BYTES:
            raise ValueError(f"{place.size:,} bytes are more than an image may have")
        if _compressed(self.names[place.tar]):
            assert self.unpacked is not None
            return _read_at(self.unpacked.fileno(), place)
        with open_regular(self.root / self.names[place.tar], DatasetError) as file:
            return _read_at(file.fileno(), place)

    def open(self, number: int) -> BinaryIO:
        """A tar, at its begin. The caller closes it."""
        path = self.root / self.names[number]
        if not _compressed(self.names[number]):
            return open_regular(path, DatasetError)
        if self.unpacked is None:
            self.unpacked = tempfile.TemporaryFile()  # noqa: SIM115  (closed with this object)
            weakref.finalize(self, _close, self.unpacked)
        start = self.unpacked.seek(0, os.SEEK_END)
        for block in blocks(path):
            self.unpacked.write(block)
        self.unpacked.flush()
        file = os.fdopen(os.dup(self.unpacked.fileno()), "rb")
        file.seek(start)
        return file

    def num_bytes(self, index: int) -> int:
        """See `Store`."""
        return self.places[index].size


def _close(file: BinaryIO) -> None:
    with suppress(OSError):  # after an error it writes again what the disk has not taken
        file.close()


def _compressed(name: str) -> bool:
    return not name.lower().endswith(".tar")


def _read_at(file: int, place: _Place) -> bytes:
    """The bytes of a file in a tar. Several threads may call it."""
    data = b""
    while len(data) < place.size:
        more = os.pread(file, place.size - len(data), place.start + len(data))
        if not more:
            raise ValueError("the tar is damaged: it ends early")
        data += more
    return data


@dataclass
class _Sample:
    """The files of one sample that were found so far."""

    image: _Place | None = None
    label: Label = None
    ending: str = ""  # of the file that gave the label
    source: str = ""  # its name


def _divided(name: str) -> tuple[str, str]:
    """The name of the sample, and the rest after the file's first dot in lower case."""
    folder, slash, base = name.rpartition("/")
    key, _, ending = base.partition(".")
    return f"{folder}{slash}{key}", ending.lower()


def holds_sample(names: Iterable[str]) -> bool:
    """Whether an image and a label of one sample are among the files.

    Args:
        names: Names of files in a tar.
    """
    endings: dict[str, set[str]] = {}
    for name in names:
        key, ending = _divided(name)
        endings.setdefault(key, set()).add(ending)
    return any(
        not found.isdisjoint(_LABELS) and any(f".{ending}" in ENDINGS for ending in found)
        for found in endings.values()
    )


def read_tars(root: Path, names: Sequence[str], hints: Hints, listing: Listing) -> Rows:
    """Read the labels of all samples, and find their images.

    Args:
        root: A folder.
        names: The tars, as paths below it.
        hints: The key of labels in JSON files.
        listing: Files that are left out are noted in it, with the reason.

    Returns:
        The rows, in the order of the tars. A split is given where the name of a tar means one.

    Raises:
        ConfigError: A key of JSON is given, and no label comes from JSON.
        DatasetError: A tar is damaged or hostile, a label cannot be read, or no object of JSON has
            the key.
        OSError: The disk fails.
    """
    store, has_json = _Tars(root, names), False
    rows, keys = Rows(store, [], []), set[str]()
    for number, name in enumerate(names):
        path = root / name
        samples = dict[str, _Sample]()
        with store.open(number) as file:
            for member in tar_members(file, path):
                place = _Place(number, member.offset_data, member.size, member.name)
                for left_out, reason in _take(samples, file, place, hints, path, keys):
                    listing.leave_out(f"{name}:{left_out}", reason)
        split = split_of_path(name)
        for sample in samples.values():
            if sample.image is None:
                if sample.source:
                    listing.leave_out(f"{name}:{sample.source}", "label without an image")
                continue
            store.places.append(sample.image)
            rows.labels.append(sample.label)
            rows.splits.append(split)
            listing.used[os.path.splitext(sample.image.name)[1].lower()] += 1
            has_json = has_json or sample.ending == "json"
    if hints.label_column and not has_json:
        raise ConfigError(
            f"--label-column {hints.label_column} has no effect: no label of {root} comes from a"
            " .json file. Leave it out."
        )
    if keys and all(label is None for label in rows.labels):
        if hints.label_column:
            where = f"in the .json files of {root}"
            raise unknown("key", hints.label_column, keys, DatasetError, where=where)
        raise DatasetError(
            f"no .json file of {root} has a usual key for labels. Their keys:"
            f" {', '.join(map(printable, sorted(keys)))}. Name one: --label-column KEY"
        )
    return rows


def _take(
    samples: dict[str, _Sample], file: BinaryIO, place: _Place, hints: Hints, path: Path,
    keys: set[str],
) -> Iterator[tuple[str, str]]:  # fmt: skip
    """Take a file of a tar into its sample. Yields (name, reason) of files that are left out.

    `keys` gets the keys of JSON objects that have no label.
    """
    key, ending = _divided(place.name)
    base = place.name.rpartition("/")[2]
    if base.startswith((".", "__")):
        yield place.name, "metadata of the tar" if base.startswith("__") else "hidden file"
        return
    sample = samples.setdefault(key, _Sample())
    if f".{ending}" in ENDINGS:
        if sample.image is not None:
            yield place.name, "second image of a sample"
        else:
            sample.image = place
        return
    if ending not in _LABELS:
        yield place.name, f"neither image nor label (.{printable(ending)})"
        return
    if sample.ending == ending:
        yield place.name, "second label of a sample"
        return
    if sample.ending:
        chosen, other = sorted((ending, sample.ending), key=_LABELS.index)
        unused = place.name if other == ending else sample.source
        yield unused, f"the label comes from .{chosen}"
        if other == ending:
            return
    if place.size > _MAX_LABEL_BYTES:
        raise DatasetError(f"{path}: the label {printable(place.name)} has {place.size:,} bytes.")
    try:
        sample.label = _label(_read_at(file.fileno(), place), ending, hints, keys)
    except (ValueError, RecursionError) as error:
        raise DatasetError(
            f"{path}: the label {printable(place.name)} cannot be read: {printable(str(error))}"
        ) from None
    sample.ending, sample.source = ending, place.name


def _label(content: bytes, ending: str, hints: Hints, keys: set[str]) -> Label:
    """The label that a file holds. `keys` gets the keys of a JSON object that has none."""
    text = content.decode("utf-8-sig").strip()
    if ending != "json":
        return as_label(text, "", hints.label_separator)
    value = json.loads(text)
    if isinstance(value, dict):
        column = label_column([*value], hints)
        if not column and len(keys) < _MAX_KEYS:
            keys.update(map(str, value))
        return as_label(value[column], column, hints.label_separator) if column else None
    return as_label(value, "", hints.label_separator)
