"""The answers of a teacher on the disk: one file for each epoch of a student.

In: a description of everything that the answers depend on. Out: a folder for that description, and
files that are complete or do not exist. The augmentation is not stored: it follows from the seed,
the epoch and the sample.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from slipform.models.weight_file import read_weights, write_weights
from slipform.pipelines.errors import SlipformError
from slipform.pipelines.files import locked, remove_orphans, write_whole
from slipform.train.step.distill import Answers

__all__ = ["FOLDER", "Stored", "add_answers", "answers_path", "merged", "read_answers"]

FOLDER = "answers"
_DESCRIPTION = "about.json"


@dataclass(frozen=True)
class Stored:
    """The answers of one epoch, and the part of the epoch that they cover.

    Attributes:
        answers: For all samples; those outside of the part may be missing.
        first: The position of the first sample with an answer in the order of the epoch.
        end: The position after the last one. The order is the same for all students with this file.
    """

    answers: Answers
    first: int
    end: int

    def known_until(self, first: int) -> int:
        """The position after the last sample from `first` on that has an answer.

        Args:
            first: The position of a sample. It is returned if that sample has no answer.
        """
        return max(first, self.end) if self.first <= first else first


def answers_path(folder: Path, about: dict[str, Any], epoch: int) -> Path:
    """The file for the answers of an epoch.

    Args:
        folder: The folder for all answers of a teacher.
        about: Everything that the answers depend on, besides the epoch.
        epoch: The epoch, counted from 1.
    """
    text = json.dumps(about, sort_keys=True)
    return folder / hashlib.sha256(text.encode()).hexdigest()[:16] / f"epoch-{epoch:05}.safetensors"


def read_answers(path: Path, like: Answers) -> Stored | None:
    """Read the answers of an epoch.

    Args:
        path: The file.
        like: A table with the right shapes and types.

    Returns:
        The answers, on the CPU; None if there is no such file.

    Raises:
        SlipformError: The file is damaged. The text says to remove it.
    """
    if not path.exists():
        return None
    try:
        tensors, metadata = read_weights(path)
        answers = Answers(tensors["values"], tensors["classes"])
        first, end = int(metadata["first"]), int(metadata["end"])
    except (SlipformError, KeyError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    for name in ("values", "classes"):
        found, right = getattr(answers, name), getattr(like, name)
        if found.shape != right.shape or found.dtype != right.dtype:
            raise _damaged(path, f"{name} is {found.dtype} {tuple(found.shape)}")
    return Stored(answers, first, end)


def _damaged(path: Path, why: str) -> SlipformError:
    return SlipformError(f"{path} is damaged ({why}): remove it, and the teacher answers again")


def add_answers(path: Path, about: dict[str, Any], new: Stored) -> Stored:
    """Write answers of an epoch, and the description of their folder.

    Answers that are there do not change: another student may use them already.

    Args:
        path: See `answers_path`; its folder is created.
        about: See `answers_path`.
        new: The answers.

    Returns:
        What is stored now.

    Raises:
        SlipformError: The files cannot be written, or the file that is there is damaged.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Other students may write here, too. Only one of them removes the files of killed ones.
        with locked(path.parent / ".lock", "another student", wait=True):
            remove_orphans(path.parent)
            stored = merged(read_answers(path, new.answers), new)
            tensors = {"values": stored.answers.values, "classes": stored.answers.classes}
            write_whole(path.parent / _DESCRIPTION, json.dumps(about, indent=1, sort_keys=True))
            write_weights(path, tensors, {"first": str(stored.first), "end": str(stored.end)})
    except OSError as error:
        raise SlipformError(
            f"the teacher's answers cannot be written to {path}: {error.strerror or error}. Make"
            " room there, or set distill.answers to another folder."
        ) from error
    return stored


def merged(before: Stored | None, new: Stored) -> Stored:
    """New answers together with those that were stored before, which do not change.

    Args:
        before: What was stored; None: nothing.
        new: Answers for another part of the epoch.
    """
    if before is None:
        return new
    missing = before.answers.values.isnan().any(1, keepdim=True)
    answers = Answers(
        torch.where(missing, new.answers.values, before.answers.values),
        torch.where(missing, new.answers.classes, before.answers.classes),
    )
    if new.first <= before.end and before.first <= new.end:
        return Stored(answers, min(before.first, new.first), max(before.end, new.end))
    return Stored(answers, new.first, new.end)
