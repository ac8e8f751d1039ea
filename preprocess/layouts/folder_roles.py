"""The roles of the folders in an image folder: classes, or train/, val/ and test/ with classes.

In: a folder. Out: the samples by split. Nothing is guessed. A folder that has two possible meanings
is an error, whose message names the option that decides.
"""

from __future__ import annotations

from pathlib import Path

from slipform.pipelines.decoding.image_file import ENDINGS
from slipform.pipelines.errors import DatasetError, printable
from slipform.preprocess.class_folders import (
    holds_image,
    image_folders,
    leave_out_folder,
    list_images,
)
from slipform.preprocess.layouts.contract import Divided
from slipform.preprocess.layouts.folder_classes import name_classes, some_folders
from slipform.preprocess.listing import Listing
from slipform.preprocess.splits import canonical

__all__ = ["class_folders", "decide", "read_folders", "single_folder", "split_folder"]


def decide(root: Path) -> str:
    """Find out what the folders in a folder are.

    Args:
        root: The folder.

    Returns:
        "classes": every folder is a class. "splits": train/, val/ and test/ hold the classes.

    Raises:
        DatasetError: The folder has two possible meanings, or one class only.
    """
    folders = image_folders(root)
    named = [name for name in folders if canonical(name)]
    layout = _decide(root, folders, named)
    found = _splits(root, folders, named, Listing()) if layout == "splits" else {"": folders}
    classes = name_classes(root, found, Listing())
    if len(classes) == 1:
        raise DatasetError(
            f'{root} holds one class only, "{printable(classes[0][0])}". Put the images of each'
            f" class into a folder of their own. If one class is meant: --layout {layout}"
        )
    if layout == "classes":
        _check_not_turned_around(root, [folder for _, splits in classes for folder in splits[""]])
    return layout


def read_folders(root: Path, layout: str, listing: Listing) -> Divided:
    """List the images in the folders of classes.

    Args:
        root: The folder.
        layout: "classes" or "splits", as `decide` returns it.
        listing: The layout, and what is left out, are noted in it.

    Returns:
        The classes, sorted, and the samples.

    Raises:
        DatasetError: train/ is missing, or there are no images.
    """
    folders = image_folders(root, listing)
    named = [name for name in folders if canonical(name)]
    found = _splits(root, folders, named, listing) if layout == "splits" else {"": folders}
    classes = name_classes(root, found, listing)
    if not classes:
        raise DatasetError(f"{root} holds no images in its folders ({', '.join(ENDINGS)}).")
    words = {"splits": "folders of splits, in each one folder per class"}
    listing.layout = words.get(layout, "one folder per class")
    roles = {split: [splits.get(split, []) for _, splits in classes] for split in found}
    return Divided(
        [name for name, _ in classes],
        {split: list_images(root, paths, listing=listing) for split, paths in roles.items()},
        f"by folders {', '.join(sorted(roles))}" if layout == "splits" else "",
    )


def single_folder(source: Path, listing: Listing) -> Path:
    """Find the folder of the classes or splits. Many archives put it into other folders.

    Args:
        source: The folder where the search begins.
        listing: Entries beside the folder are noted in it.

    Returns:
        The first folder, from `source` downwards, with several folders, with a folder of a split,
        or with a folder that holds no folders.

    Raises:
        DatasetError: A folder holds no folders.
    """
    while True:
        inside = Listing()
        folders = image_folders(source, inside)
        if len(folders) > 1 or canonical(folders[0]) or not _has_folders(source / folders[0]):
            for entry in sorted(source.iterdir()):
                if not entry.is_dir():
                    listing.leave_out(entry.name, "file beside the folders")
            return source
        for path, reason in inside.left_out:
            listing.leave_out(path, reason)
        for entry in sorted(source.iterdir()):
            if not entry.is_dir():
                listing.leave_out(entry.name, "file beside the folder of all images")
        source = source / folders[0]


def split_folder(root: Path) -> str:
    """The folder of train, if it holds folders of images.

    Args:
        root: A folder.

    Returns:
        Its name. "": there is none.
    """
    named = (name for name in _folders(root) if canonical(name) == "train")
    return next((name for name in named if _class_folders(root, name, Listing())), "")


def class_folders(root: Path) -> list[str]:
    """The folders that could be classes.

    Args:
        root: A folder.

    Returns:
        At least two folders of images without the names of splits. Empty: there are none.
    """
    names = _folders(root)
    found = [n for n in names if not canonical(n) and holds_image(root, n)]
    return found if len(found) > 1 else []


def _folders(root: Path) -> list[str]:
    try:
        return image_folders(root) if root.is_dir() else []
    except DatasetError:
        return []


def _has_folders(folder: Path) -> bool:
    return any(entry.is_dir() for entry in folder.iterdir())


def _decide(root: Path, folders: list[str], named: list[str]) -> str:
    """ "classes" or "splits", if only one of them is possible."""
    if not named:
        return "classes"
    others = [name for name in folders if name not in named and holds_image(root, name)]
    has_train = any(canonical(name) == "train" for name in named)
    listed = " and ".join(f"{name}/" for name in named)
    if others:
        raise DatasetError(
            f"{root}: {listed} could be a split or a class, beside {some_folders(others)}."
            " --layout classes takes all of them as classes"
            + ("; --layout splits leaves the others out." if has_train else ".")
        )
    if not has_train:
        raise DatasetError(
            f"{root}: the folder train/ is missing beside {listed}. Add it. If these are classes:"
            " --layout classes"
        )
    return "splits"


def _splits(
    root: Path, folders: list[str], named: list[str], listing: Listing
) -> dict[str, list[str]]:
    """The class folders of each split, as paths below `root`."""
    given: dict[str, str] = {}
    for folder in named:
        split = canonical(folder)
        if split in given:
            raise DatasetError(
                f"{root} holds two folders for the split {split}: {given[split]} and {folder}."
                " Rename one of them, or move it out of the source."
            )
        given[split] = folder
    if "train" not in given:
        raise DatasetError(f"{root}: the folder train/ is missing. --layout classes needs none.")
    for folder in folders:
        if folder not in named:
            leave_out_folder(root, folder, "folder beside those of the splits", listing)
    found = {}
    for split, folder in given.items():
        inside = _class_folders(root, folder, listing)
        if inside:
            found[split] = inside
        elif split == "train":
            raise DatasetError(
                f"{root / folder} holds no folders of images; expected one per class."
                " If it is a class: --layout classes"
            )
        elif holds_image(root, folder):
            leave_out_folder(root, folder, "images without folders of classes", listing)
            listing.notes.append(
                f"{folder}/ holds images without folders of classes, so it is left out."
                " `predict` reads unlabeled images."
            )
        else:
            leave_out_folder(root, folder, "folder without images", listing)
    known = {path.split("/", 1)[1] for path in found["train"]}
    for split in [split for split in found if split != "train"]:
        if not known & {path.split("/", 1)[1] for path in found[split]}:
            folder = given[split]
            del found[split]
            leave_out_folder(root, folder, "none of its folders is a class of train", listing)
            listing.notes.append(
                f"{folder}/ is left out: none of its folders is a class of {given['train']}/."
            )
    return found


def _class_folders(root: Path, folder: str, listing: Listing) -> list[str]:
    """The class folders in the folder of a split, as paths below `root`."""
    inside = Listing()
    try:
        names = image_folders(root / folder, inside)
    except DatasetError:
        names = []
    for path, reason in inside.left_out:
        listing.leave_out(f"{folder}/{path}", reason)
    if not any(holds_image(root, f"{folder}/{name}") for name in names):
        return []
    for entry in sorted((root / folder).iterdir()):
        if not entry.is_dir():
            listing.leave_out(f"{folder}/{entry.name}", "file beside the folders of classes")
    return [f"{folder}/{name}" for name in names]


def _check_not_turned_around(root: Path, folders: list[str]) -> None:
    """Check that no class folder holds train/ and val/: all splits would be mixed."""
    for folder in folders:
        try:
            inside = image_folders(root / folder)
        except DatasetError:
            continue
        if any(canonical(n) == "train" and holds_image(root / folder, n) for n in inside):
            raise DatasetError(
                f"{root}: the class folder {printable(folder)}/ holds folders of splits."
                " Exchange the levels: train/CLASS, not CLASS/train. If all images of a class"
                " belong together: --layout classes"
            )
