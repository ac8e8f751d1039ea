"""What a layout of labeled images is: `Layout`, with `Hints` in and `Divided` out.

In: nothing. Out: the types. They are quick to import.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from slipform.pipelines.errors import ConfigError

if TYPE_CHECKING:
    from slipform.preprocess.listing import Listing
    from slipform.preprocess.source import Divisible

__all__ = ["Divided", "Finding", "Hints", "Layout", "Unlabeled"]

Unlabeled: TypeAlias = Literal["skip", "error", "background"]


@dataclass(frozen=True)
class Hints:
    """The options about a source. The default of each stands for: not given.

    Attributes:
        list_file: Name of the list of images.
        image_column: The column with the path or the bytes of an image.
        label_column: The column, or the key of JSON, with the label or labels.
        label_separator: Text that stands between the labels of an image. "": only columns such
            as "labels" have several labels in a text.
        split_column: The column with the split.
        class_columns: Columns that hold a number for each class, separated by commas. "others": all
            columns but those of the image and the split.
        class_names: A file with one class name per line, in the order of their numbers.
        unlabeled: Rows without a label: "skip" leaves them out; "error"; "background" keeps them,
            with a class of this name, or with none of the classes if images have several labels.

    Raises:
        ConfigError: Two of them contradict each other.
    """

    list_file: str = ""
    image_column: str = ""
    label_column: str = ""
    label_separator: str = ""
    split_column: str = ""
    class_columns: str = ""
    class_names: Path | None = None
    unlabeled: Unlabeled = "skip"

    def __post_init__(self) -> None:
        if self.class_columns and (self.label_column or self.class_names or self.label_separator):
            raise ConfigError(
                "--class-columns gives the labels and the names of the classes: leave out"
                " --label-column, --label-separator and --class-names"
            )

    @property
    def given(self) -> dict[str, str]:
        """The values that are given, by attribute."""
        values = ((entry, getattr(self, entry.name)) for entry in fields(self))
        return {entry.name: str(value) for entry, value in values if value != entry.default}


@dataclass(frozen=True)
class Finding:
    """What a layout finds in a folder or file.

    Attributes:
        words: The parts of this layout, in words. "": there are none.
        doubts: Files that are similar to parts of this layout and are not used, one sentence each.
    """

    words: str = ""
    doubts: Sequence[str] = ()


@dataclass(frozen=True)
class Divided:
    """Labeled samples, as a layout reads them.

    Attributes:
        classes: Names of the labels 0..C-1.
        splits: The samples by split. The only split is "" if the source has no splits.
        rule: Where the splits come from, in words. "": the source has none.
    """

    classes: Sequence[str]
    splits: Mapping[str, Divisible]
    rule: str = ""


@dataclass(frozen=True)
class Layout:
    """A way to lay out images and labels.

    Attributes:
        name: Value of --layout.
        help: What it is, in a few words.
        find: find(place, hints) describes the parts of this layout in a folder or file. It reads
            few files. A part that is damaged is an error.
        read: read(place, hints, listing) reads labels and splits. Files that are not used are noted
            in the listing.
        options: The attributes of `Hints` that it reads. Others must not be given.
        specific: Whether such a source also fits other layouts, and this one is meant.
    """

    name: str
    help: str
    find: Callable[[Path, Hints], Finding]
    read: Callable[[Path, Hints, Listing], Divided]
    options: tuple[str, ...] = ()
    specific: bool = False
