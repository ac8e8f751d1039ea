"""The progress bar: images done, images per second, time left; and then bytes sent.

In: the number of images. Out: a context that gives a `Bar`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["Bar", "progress_bar"]


class Bar:
    """A progress bar on standard error. It is called with the number of images since the last call.

    Args:
        progress: The display.
        images: Its line for images.
    """

    def __init__(self, progress: Progress, images: TaskID) -> None:
        self._progress, self._images = progress, images
        self._bytes: TaskID | None = None

    def __call__(self, num_images: int) -> None:
        self._progress.advance(self._images, num_images)

    def uploaded(self, num_bytes: int, total: int) -> None:
        """Show how much of an upload is done. The first call adds a line for it.

        Args:
            num_bytes: The number of bytes since the last call.
            total: The number of all bytes.
        """
        if self._bytes is None:
            self._bytes = self._progress.add_task("", total=total, unit="bytes")
        self._progress.advance(self._bytes, num_bytes)


@contextmanager
def progress_bar(total: int) -> Iterator[Bar]:
    """Show a progress bar during the block, if standard error is a terminal.

    Args:
        total: Number of all images.

    Yields:
        The bar.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
    from rich.text import Text

    class Done(ProgressColumn):
        def render(self, task: Task) -> Text:
            if task.fields.get("unit") == "bytes":
                return Text(f"{task.completed / 1e6:,.0f}/{(task.total or 0) / 1e6:,.0f} MB sent")
            return Text(f"{int(task.completed)}/{int(task.total or 0)}")

    class Speed(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed or 0
            if task.fields.get("unit") == "bytes":
                return Text(f"{speed / 1e6:,.1f} MB/s")
            return Text(f"{speed:,.0f} images/s")

    console = Console(stderr=True)
    with Progress(
        BarColumn(),
        Done(),
        Speed(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as progress:
        yield Bar(progress, progress.add_task("", total=total))
