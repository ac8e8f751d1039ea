"""The messages of a run, and its progress line on a terminal or in a notebook.

In: counts of steps and the time that they took. Out: text on stderr, or below the cell of a
notebook. A log file gets the messages only.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO, cast

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from slipform.pipelines.notebook import NotebookLine, in_notebook
from slipform.pipelines.number_text import number_text
from slipform.train.run.rates import rate_text

__all__ = ["ProgressLine", "open_console"]

_MIN_BAR, _MAX_BAR = 6, 40  # characters
_MIN_SECONDS = 0.2  # of training, before the speed or the time left is shown


# An AttributeError: the process was started with a closed stderr, and Python has None for it.
_FAILED = (OSError, ValueError, AttributeError)


class _Lossy:
    """A text file that ignores failed writes, such as after the terminal was closed."""

    def __init__(self, file: TextIO | None) -> None:
        self._file = file

    def write(self, text: str) -> int:
        with contextlib.suppress(*_FAILED):
            self._file.write(text)  # type: ignore[union-attr]
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(*_FAILED):
            self._file.flush()  # type: ignore[union-attr]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def open_console(quiet: bool) -> Console:
    """Open a console on stderr. It wraps lines between words on a terminal, but not in a log file.

    In a notebook it is on stdout: notebooks show the text of stderr like an error.

    Args:
        quiet: The console prints nothing.
    """
    notebook = in_notebook()
    console = Console(
        file=cast(TextIO, _Lossy(sys.stdout if notebook else sys.stderr)),
        quiet=quiet,
        highlight=False,
        force_terminal=False if notebook else None,
        force_jupyter=False,  # rich would make every message an HTML output of its own
    )
    console.soft_wrap = not console.is_terminal
    return console


class ProgressLine:
    """The progress line of a run: epoch, bar, steps, time left, loss, speed, share of waiting.

    `begin_epoch` and `begin_validation` begin a part; `step` counts the steps of that part.

    Args:
        console: Where the line is shown.
        clock: Returns seconds; tests give their own.

    Attributes:
        shown: Whether the line is shown: the console is a terminal and is not quiet.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        notebook = in_notebook()
        self._live: Live | NotebookLine = (
            NotebookLine(self.line)
            if notebook
            else Live(self, console=console, transient=True, refresh_per_second=4)
        )
        self.shown = (notebook or console.is_terminal) and not console.quiet
        self._name, self._done, self._total = "", 0, 0
        self._epoch, self._epochs = 0, 0
        self._began = 0.0
        self._first = 0  # steps of this part that were done before the run was resumed
        self._steps, self._step_seconds = 0, 0.0  # of all training in this process
        self._validations, self._validation_seconds = 0, 0.0
        self._steps_per_epoch = 0
        self._validates = False
        self._loss: float | None = None
        self._rate, self._wait = 0.0, 0.0

    def begin_epoch(self, epoch: int, epochs: int, done: int, num_steps: int) -> None:
        """Begin the training of an epoch.

        Args:
            epoch: The epoch, counted from 1.
            epochs: Epochs of the run.
            done: Steps of the epoch that were done before the run was resumed.
            num_steps: Steps of the epoch.
        """
        self._end_part()
        self._epoch, self._epochs, self._steps_per_epoch = epoch, epochs, num_steps
        self._begin(f"epoch {epoch}/{epochs}", done, num_steps)

    def begin_validation(self, num_batches: int) -> None:
        """Begin the validation of the epoch.

        Args:
            num_batches: Batches of the validation split.
        """
        self._end_part()
        self._validates = True
        self._begin(f"validating {self._epoch}/{self._epochs}", 0, num_batches)

    def begin_teacher(self, epoch: int, epochs: int, num_batches: int) -> None:
        """Begin the answers of a teacher for an epoch.

        Args:
            epoch: The epoch, counted from 1.
            epochs: Epochs of the run.
            num_batches: Batches that the teacher sees.
        """
        self._end_part()
        self._begin(f"teacher {epoch}/{epochs}", 0, num_batches)

    def step(self, images: int = 0, seconds: float = 0.0, wait_share: float = 0.0) -> None:
        """Count one step or one batch of validation.

        Args:
            images: Images trained on in this epoch so far.
            seconds: Seconds of training in this epoch so far; 0: the speed does not change.
            wait_share: The share of these seconds, 0..1, that training waited for data.
        """
        self._done += 1
        if seconds > _MIN_SECONDS:
            self._rate, self._wait = images / seconds, wait_share
        if isinstance(self._live, NotebookLine):  # Live has a thread for this
            self._live.refresh()

    def loss(self, value: float) -> None:
        """Set the loss.

        Args:
            value: The mean loss of the newest steps.
        """
        self._loss = value

    def close(self) -> None:
        """Remove the line from the terminal."""
        if self._live.is_started:
            self._live.stop()

    def _begin(self, name: str, done: int, total: int) -> None:
        self._name, self._done, self._total, self._first = name, done, total, done
        self._began = self._clock()
        if self.shown and not self._live.is_started:
            self._live.start()

    def _end_part(self) -> None:
        seconds = self._clock() - self._began
        if self._name.startswith("epoch"):
            self._steps += self._done - self._first
            self._step_seconds += seconds
        elif self._name.startswith("validating"):
            self._validations += 1
            self._validation_seconds += seconds
        self._name = ""

    def seconds_left(self) -> float | None:
        """Estimated seconds until the end of the run; None if no estimate is possible yet."""
        now = self._clock() - self._began
        done, left = self._done - self._first, self._total - self._done
        trains = self._name.startswith("epoch")
        steps = self._steps + (done if trains else 0)
        step_seconds = self._step_seconds + (now if trains else 0.0)
        if not steps or step_seconds < _MIN_SECONDS or self._name.startswith("teacher"):
            return None
        step = step_seconds / steps
        validation = self._validation_seconds / self._validations if self._validations else 0.0
        later = self._epochs - self._epoch
        seconds = later * (self._steps_per_epoch * step + validation)
        if trains:
            return seconds + left * step + validation
        return seconds + (max(validation - now, 0.0) if validation else now / max(done, 1) * left)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(self.line(options.max_width - 1), no_wrap=True, overflow="crop")

    def line(self, width: int) -> str:
        """The text of the line. A part that does not fit is left out as a whole.

        Args:
            width: The maximum number of characters.
        """
        left = self.seconds_left()
        pieces = [
            # (position in the line, text), the most important first
            (0, self._name),
            (2, f"{self._done}/{self._total}"),
            (3, f"{_duration(left)} left" if left is not None else ""),
            (4, f"loss {number_text(self._loss)}" if self._loss is not None else ""),
            (5, rate_text(self._rate) if self._rate else ""),
            (6, f"{self._wait:.0%} waiting for data" if self._rate else ""),
        ]
        chosen: list[tuple[int, str]] = []
        for place, text in pieces:
            used = sum(len(other) + 2 for _, other in chosen)
            if text and used + len(text) <= width:
                chosen.append((place, text))
        room = width - sum(len(text) + 2 for _, text in chosen)
        if room >= _MIN_BAR:
            chosen.append((1, _bar(min(room, _MAX_BAR), self._done, self._total)))
        return "  ".join(text for _, text in sorted(chosen))


def _bar(width: int, done: int, total: int) -> str:
    filled = min(width, width * done // max(total, 1))
    return "━" * filled + "─" * (width - filled)


def _duration(seconds: float) -> str:
    """ "0:07", "12:30", "3:05:00", "4 days 3 h"."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole % 3600 // 60
    if hours >= 48:
        return f"{hours // 24} days {hours % 24} h"
    if hours:
        return f"{hours}:{minutes:02}:{whole % 60:02}"
    return f"{minutes}:{whole % 60:02}"
