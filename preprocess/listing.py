"""The entries below a source folder: files used, files left out and why, links followed.

In: what the readers of folders find. Out: `Listing`. The account and report.txt are made from it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from slipform.pipelines.errors import printable

__all__ = ["Listing", "some"]

_SHOWN = 8  # number of names in one line


def some(names: Sequence[str]) -> str:
    """The first of many names, and how many more there are.

    Args:
        names: Any names.

    Returns:
        One line without control characters: "a, b and 9 more".
    """
    shown = ", ".join(printable(name) for name in names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else "")


@dataclass
class Listing:
    """All entries below a source folder.

    Attributes:
        layout: The layout that was found, in words.
        used: Number of files that were taken as images, by ending.
        left_out: (path below the source, reason) of each file or folder that was left out.
        linked: Linked folders that were followed.
        notes: Other facts that the user should know, one sentence each.
        warnings: Facts that are probably mistakes, one sentence each.
    """

    layout: str = ""
    used: Counter[str] = field(default_factory=Counter)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    linked: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def leave_out(self, path: str, reason: str) -> None:
        """Note that a file or folder was left out.

        Args:
            path: Its path below the source.
            reason: Why, in words.
        """
        self.left_out.append((path, reason))

    def leave_out_image(self, path: str, reason: str) -> None:
        """Note that a file was left out that was counted as an image before.

        Args:
            path: Its path below the source.
            reason: Why, in words.
        """
        self.leave_out(path, reason)
        self.used[os.path.splitext(path)[1].lower() or "no ending"] -= 1
        self.used = +self.used

    def use(self, *paths: str) -> None:
        """Note that files are used, although they are not images.

        Args:
            paths: Their paths below the source.
        """
        self.left_out = [entry for entry in self.left_out if entry[0] not in paths]
