"""The progress bar: images done, images per second, time left; and then bytes sent.

In: the number of images. Out: a context that gives a `Bar`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from slipform.pipelines.notebook import NotebookLine, in_notebook

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["Bar", "progress_bar"]


class Bar:
    """A progress bar. It is called with the number of images since the last call.

    Args:
        progress: The display.
        images: Its line for images.
        changed: Called after each change.
    """

    def __init__(
        self, progress: Progress, images: TaskID, changed: Callable[[], None] = lambda: None
    ) -> None:
        self._progress, self._images, self._changed = progress, images, changed
        self._bytes: TaskID | None = None

    def __call__(self, num_images: int) -> None:
        self._progress.advance(self._images, num_images)
        self._changed()

    def uploaded(self, num_bytes: int, total: int) -> None:
        """Show how much of an upload is done. The first call adds a line for it.

        Args:
            num_bytes: The number of bytes since the last call.
            total: The number of all bytes.
        """
        if self._bytes is None:
            self._bytes = self._progress.add_task("", total=total, unit="bytes")
        self._progress.advance(self._bytes, num_bytes)
        self._changed()


@contextmanager
def progress_bar(total: int, *, terminal: bool = True) -> Iterator[Bar]:
    """Show a progress bar during the block: on standard error if that is a terminal, or below the
    cell of a notebook.

    Args:
        total: Number of all images.
        terminal: False: only a notebook shows it.

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
        disable=not (terminal and console.is_terminal),
    ) as progress:
        images = progress.add_task("", total=total)
        if not in_notebook():
            yield Bar(progress, images)
            return
        line = NotebookLine(lambda width: _text(progress, width))
        line.start()
        try:
            yield Bar(progress, images, line.refresh)
        finally:
            line.stop()


def _text(progress: Progress, width: int) -> str:
    """What a terminal would show, without colors."""
    from rich.console import Console

    page = io.StringIO()
    console = Console(
        file=page, width=width, color_system=None, force_terminal=False, force_jupyter=False
    )
    console.print(progress.get_renderable())
    return "\n".join(line.rstrip() for line in page.getvalue().splitlines())
