"""The lists that come with ImageNet: names of synsets, labels of the validation images.

In: a folder. Out: the name of each synset, and the synset of each validation image.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slipform.pipelines.errors import DatasetError
from slipform.pipelines.files import open_regular
from slipform.preprocess.class_folders import locate

__all__ = [
    "NAMES",
    "VAL_LISTS",
    "Names",
    "class_names",
    "find_lists",
    "read_lines",
    "read_names",
    "read_val",
]

NAMES = ("LOC_synset_mapping.txt", "synset_words.txt", "words.txt")
VAL_LISTS = (
    "LOC_val_solution.csv",  # of Kaggle
    "val_annotations.txt",  # of Tiny ImageNet
    "imagenet_2012_validation_synset_labels.txt",  # of TensorFlow
    "ILSVRC2012_validation_ground_truth.txt",  # of the development kit, with meta.mat
)
_META = "meta.mat"
_MAX_BYTES = 64 << 20
_NAME = re.compile(r"(n\d{8})[\s,:]+(\S.*)")
_SYNSET = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class Names:
    """Names of synsets.

    Attributes:
        names: All words of a synset, by its number: {"n01440764": "tench, Tinca tinca"}.
        path: The file they come from. None: there is none.
    """

    names: Mapping[str, str]
    path: Path | None


@dataclass(frozen=True)
class _Answers:
    """The synset of each validation image by its path, and the files that say so."""

    labels: dict[str, str]
    paths: list[Path]


def find_lists(place: Path, names: Sequence[str]) -> list[Path]:
    """Find files by name, in a folder and up to three levels below it.

    Args:
        place: The folder.
        names: Names of files.

    Returns:
        The paths of those that exist.
    """
    found = (locate(place, name) for name in names)
    return [path for path in found if path is not None and path.is_file()]


def read_names(place: Path) -> Names:
    """Read the names of synsets.

    Args:
        place: The folder with one of `NAMES`.

    Returns:
        The names. Empty: there is no such file.

    Raises:
        DatasetError: The file holds no names.
    """
    for path in find_lists(place, NAMES):
        matches = (_NAME.match(line) for line in read_lines(path))
        names = {match[1]: match[2].strip() for match in matches if match}
        if not names:
            raise DatasetError(f"{path} holds no line such as: n01440764 tench, Tinca tinca")
        return Names(names, path)
    return Names({}, None)


def class_names(synsets: Sequence[str], names: Mapping[str, str]) -> list[str]:
    """Name the classes after the first word of their synsets.

    Args:
        synsets: Numbers of the synsets.
        names: All words of a synset, by its number.

    Returns:
        A name per synset: "tench". A word that two synsets share has their number behind it:
        "crane (n02012849)". A synset without words keeps its number.
    """
    first = [names.get(synset, synset).split(",")[0].strip() for synset in synsets]
    count = Counter(first)
    return [
        name if count[name] == 1 else f"{name} ({synset})"
        for name, synset in zip(first, synsets, strict=True)
    ]


def read_val(place: Path, images: Sequence[str]) -> _Answers:
    """Read the labels of validation images that lie in one folder.

    Args:
        place: The folder with one of `VAL_LISTS`.
        images: Paths of the images, sorted.

    Returns:
        The synset by path. Images that the list does not name are missing.

    Raises:
        DatasetError: There is no list, several lists disagree, or the list does not fit the images.
    """
    found = find_lists(place, VAL_LISTS)
    if not found:
        raise DatasetError(
            f"{place}: val holds {len(images):,} images without folders of synsets. Add the list"
            f" of their labels: one of {', '.join(VAL_LISTS)}"
        )
    answers = [_read_list(path, place, images) for path in found]
    if any(answer.labels != answers[0].labels for answer in answers):
        named = ", ".join(path.name for path in found)
        raise DatasetError(f"{place}: {named} give different labels. Remove the wrong one.")
    return answers[0]


def _read_list(path: Path, place: Path, images: Sequence[str]) -> _Answers:
    lines = [line for line in read_lines(path) if line.strip()]
    used = [path]
    if path.name in VAL_LISTS[:2]:
        words = (re.split(r"[\s,]+", line.strip(), maxsplit=2) for line in lines)
        named = {row[0]: row[1] for row in words if len(row) > 1 and _SYNSET.fullmatch(row[1])}
        labels = {}
        for image in images:
            base = image.rsplit("/", 1)[-1]
            if synset := named.get(base) or named.get(base.rsplit(".", 1)[0]):
                labels[image] = synset
        if not labels:
            raise DatasetError(f"{path} names none of the images of val.")
        return _Answers(labels, used)
    if len(lines) != len(images):
        raise DatasetError(
            f"{path} has {len(lines):,} lines, and val has {len(images):,} images. It needs one"
            " line for each image, in the order of their names."
        )
    listed = [line.strip() for line in lines]
    if path.name == VAL_LISTS[3]:
        meta = next(iter(find_lists(place, (_META,))), None)
        numbers = _development_kit(path, meta)
        used += [meta] if meta else []
        try:
            listed = [numbers[int(number)] for number in listed]
        except (ValueError, KeyError) as error:
            raise DatasetError(f"{path}: {error} is no class of {_META}.") from None
    return _Answers(dict(zip(images, listed, strict=True)), used)


def _development_kit(path: Path, meta: Path | None) -> dict[int, str]:
    """The synset of each number of the development kit, from its meta.mat."""
    if meta is None:
        raise DatasetError(f"{path} counts the classes as {_META} does, and that is missing.")
    try:
        from scipy.io import loadmat
    except ImportError:
        raise DatasetError(f"{meta} needs scipy. Install it: pip install scipy") from None
    try:
        with open_regular(meta, DatasetError) as file:
            rows = loadmat(file, squeeze_me=True)["synsets"]
        return {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in rows}
    except Exception as error:  # scipy raises many classes of exceptions for damaged files
        raise DatasetError(f"{meta} is damaged: {error}. Download it again.") from None


def read_lines(path: Path) -> list[str]:
    """Read the lines of a list.

    Args:
        path: The file.

    Raises:
        DatasetError: It is no regular file, is not UTF-8, or has more than 64 MiB.
    """
    with open_regular(path, DatasetError) as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise DatasetError(f"{path} has more than {_MAX_BYTES >> 20} MiB.")
    try:
        return content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise DatasetError(f"{path} is not UTF-8.") from None
