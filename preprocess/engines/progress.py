"""The progress of all shards: shards and images done, images per second, time left.

In: the numbers of images and shards. Out: a context that gives a `ShardProgress`, to be told what
is done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from slipform.pipelines.notebook import NotebookLine, in_notebook

__all__ = ["ShardProgress", "shard_progress"]


class ShardProgress:
    """Counts of all shards of a dataset.

    Args:
        total: Number of images of all shards.
        count: Number of shards.
        show: Called after each change with the text of the counts, and with a line about the shard
            that has ended ("" if none has).
        clock: Gives the time in seconds.
    """

    def __init__(
        self,
        total: int,
        count: int,
        show: Callable[[str, str], None] = lambda text, line: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total, self._count, self._show, self._clock = total, count, show, clock
        self._began: float | None = None  # when the first image was reported
        self._now: dict[int, int] = {}  # images of each shard that this command writes
        self._before = 0  # images of shards that were finished before
        self._ended: set[int] = set()
        self._failed = 0

    def images(self, number: int, images: int) -> None:
        """Note the images of a shard that is being written.

        Args:
            number: The number of the shard.
            images: Its images that are done. A shard that is begun again begins at 0. A late report
                about a shard that has ended has no effect.
        """
        if number in self._ended:
            return
        if self._began is None:
            self._began = self._clock()
        self._now[number] = images
        self._show(self.text(), "")

    def finished(self, number: int, images: int, *, written: bool, error: str = "") -> None:
        """Note the end of a shard.

        Args:
            number: The number of the shard.
            images: Its images.
            written: Whether it was written now. False: it was finished before.
            error: Why it is not finished.
        """
        self._now.pop(number, None)
        self._ended.add(number)
        if error:
            self._failed += 1
        elif written:
            self._now[number] = images
        else:
            self._before += images
        what = "written" if written else "was finished before"
        what = f"failed: {error.splitlines()[0]}" if error else what
        self._show(self.text(), f"shard {number}/{self._count}: {what}")

    def text(self) -> str:
        """The counts, such as "3/8 shards, 1,200/4,000 images, 900 images/s, 0:00:03 left"."""
        written = sum(self._now.values())
        done = self._before + written
        words = [f"{len(self._ended) - self._failed}/{self._count} shards"]
        words += [f"{self._failed} failed"] if self._failed else []
        words.append(f"{done:,}/{self._total:,} images")
        seconds = 0.0 if self._began is None else self._clock() - self._began
        if written and seconds > 0:
            speed = written / seconds
            left = timedelta(seconds=round((self._total - done) / speed))
            words += [f"{speed:,.0f} images/s", f"{left} left"]
        return ", ".join(words)


@contextmanager
def shard_progress(total: int, count: int, *, show: bool) -> Iterator[ShardProgress]:
    """Show the progress of all shards during the block.

    Each shard that ends gives a line on standard error. A terminal also has a line that changes. A
    notebook has only that line, below the cell.

    Args:
        total: Number of images of all shards.
        count: Number of shards.
        show: False: nothing is shown.

    Yields:
        The counts.
    """
    if not show:
        yield ShardProgress(total, count)
        return
    if in_notebook():
        with _notebook_line() as changed:
            yield ShardProgress(total, count, changed)
        return
    from rich.console import Console
    from rich.progress import Progress, TextColumn

    console = Console(stderr=True)
    text = TextColumn("{task.description}", markup=False)
    with Progress(text, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)

        def told(counts: str, line: str) -> None:
            bar.update(task, description=counts)
            if line:
                console.print(f"{line} ({counts})", markup=False, highlight=False, soft_wrap=True)

        yield ShardProgress(total, count, told)


@contextmanager
def _notebook_line() -> Iterator[Callable[[str, str], None]]:
    text = ""
    line = NotebookLine(lambda width: text[:width])
    line.start()

    def changed(counts: str, _: str) -> None:
        nonlocal text
        text = counts
        line.refresh()

    try:
        yield changed
    finally:
        line.stop()
