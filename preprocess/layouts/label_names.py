"""Labels as they are written, and the classes that they name.

In: a label of a row: a name, a number, a list of several, or shares of classes. Out: the names of
all classes in their order, and the numbers of the classes of a label.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

from slipform.pipelines.errors import DatasetError, nearest, printable

__all__ = ["Classes", "Label", "is_blank", "names_in", "whole_number"]

# A class; several classes; class -> share, which sum to 1; nothing.
Label: TypeAlias = str | int | list[str | int] | dict[str, float] | None


def is_blank(label: Label) -> bool:
    """Whether a row has no label. An empty list is a label: the image has none of the classes.

    Args:
        label: As it was written.
    """
    return label is None or (isinstance(label, str) and not label.strip())


def names_in(label: Label) -> list[str | int]:
    """The classes that a label names, whole numbers as numbers.

    Args:
        label: As it was written.
    """
    several = [*label] if isinstance(label, list | dict) else [label]
    return [whole_number(one) for one in several if one is not None and str(one).strip()]


def whole_number(label: str | int) -> str | int:
    """A label as a number if it is written as a whole number.

    Args:
        label: A label.

    Returns:
        The number, or the label.
    """
    if isinstance(label, str):
        text = label.strip()
        whole = text.removesuffix(".0")  # pandas writes "3.0" in a column with missing values
        digits = whole.removeprefix("-")
        if digits.isascii() and digits.isdigit() and len(digits) < 10 and str(int(whole)) == whole:
            return int(whole)
    return label


@dataclass(frozen=True)
class Classes:
    """The classes of a source.

    Attributes:
        names: Their names, in the order of their numbers.
        positions: Whether a label that is a number is a position in `names`. False: it is a name.
        place: The source, for messages.
    """

    names: Sequence[str]
    positions: bool
    place: Path

    @cached_property
    def _known(self) -> dict[str, int]:
        return {str(whole_number(name)): number for number, name in enumerate(self.names)}

    @staticmethod
    def of(given: Sequence[str] | None, labels: Iterable[list[str | int]], place: Path) -> Classes:
        """Find the classes.

        Args:
            given: Their names, in the order of their numbers. None: they follow from the labels.
            labels: The classes that each row names; see `names_in`.
            place: The source, for messages.

        Returns:
            The given classes. Or those that the labels name: sorted by number if all are numbers,
            else by name.

        Raises:
            DatasetError: Two classes have one name, or a label is a negative number.
        """
        if given is None:
            found = {one for several in labels for one in several}
            return Classes(_found(found, place), False, place)
        names = [_text(name) for name in given]
        count = Counter(str(whole_number(name)) for name in names)
        if len(count) < len(names):
            twice = next(name for name, times in count.items() if times > 1)
            raise DatasetError(f"{place}: the class name {printable(twice)} is there twice.")
        return Classes(names, not any(type(whole_number(name)) is int for name in names), place)

    def with_class(self, name: str) -> Classes:
        """The same classes and one more, the last one, unless it is one of them.

        Args:
            name: The name of the class.
        """
        names = self.names if name in self.names else [*self.names, name]
        return Classes(names, self.positions, self.place)

    def numbers(self, labels: Sequence[str | int], image: str) -> list[int]:
        """The numbers of the classes of a row.

        Args:
            labels: The classes that the row names; see `names_in`.
            image: The name of the image, for messages.

        Raises:
            DatasetError: A label is not one of the classes.
        """
        return [self._number(label, image) for label in labels]

    def _number(self, label: str | int, image: str) -> int:
        known = self._known
        number = known.get(_text(str(label)), -1)
        if self.positions and type(label) is int:
            number = label
        if not 0 <= number < len(known):
            raise DatasetError(
                f"{self.place}: the label {printable(str(label))} of {printable(image)} is not one"
                f" of the {len(known):,} classes." + nearest(str(label), map(printable, known))
            )
        return number


def _found(labels: set[str | int], place: Path) -> list[str]:
    """The classes that labels name, in the order of their numbers."""
    numbers = sorted(label for label in labels if isinstance(label, int))
    if len(numbers) < len(labels):
        return sorted({_text(str(label)) for label in labels})
    if numbers and numbers[0] < 0:
        raise DatasetError(
            f"{place}: some labels are {numbers[0]}. If that stands for no label, leave it"
            " empty. If it is a class, write a name."
        )
    return [str(number) for number in numbers]


def _text(name: str) -> str:
    name = name.encode("utf-8", "backslashreplace").decode()  # JSON may contain a lone surrogate
    return unicodedata.normalize("NFC", name.strip())
