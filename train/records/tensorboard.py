"""The sink "tensorboard": the TensorBoard event file of a run.

In: numbers, images, histograms, settings. Out: events.out.tfevents.*. A failed write does not end
the run. After the first one nothing more is written, and one message says so.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from torch import Tensor

from slipform.train.records.sink import Place, Rows, Sink

__all__ = ["NAMES", "Board", "open_sink"]

NAMES = ("events.out.tfevents.*",)
_FLUSH_SECONDS = 30.0
_METRIC = "epoch/val_accuracy"  # the scalar that the tab HPARAMS shows with the settings


def open_sink(place: Place) -> Sink:
    """Open the sink.

    Args:
        place: The run.
    """
    return Board(place.folder, place.after_step, place.say)


class Board(Sink):
    """A new event file in a run folder. A failed write closes it, with one message.

    Args:
        folder: The run folder.
        after_step: The last step of the run before it was resumed; 0 for a new run, and for one
            that was killed before its first checkpoint. TensorBoard hides later steps of older
            files.
        say: Called with a message if the file cannot be written.
    """

    def __init__(self, folder: Path, after_step: int, say: Callable[[str], None]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._say, self._event = say, Event
        self._records: Any = None
        unique = f"{time.time():.0f}.{socket.gethostname()}.{os.getpid()}.0"
        name = NAMES[0].replace("*", unique)
        self._path = folder / name
        goes_on = any(folder.glob(NAMES[0]))
        self._flushed = time.monotonic()
        self._file: BinaryIO | None = None
        try:
            self._file = open(self._path, "ab")  # noqa: SIM115 (open as long as the run)
            self._records = RecordWriter(self._file)
        except OSError as error:
            self._give_up(error)
        self._write(file_version="brain.Event:2")
        if goes_on:
            first = after_step + 1 if after_step else 0  # the first batch is an image of step 0
            self._write(step=first, session_log=SessionLog(status=SessionLog.START))

    def numbers(self, rows: Rows) -> None:
        """See `Sink`."""
        from torch.utils.tensorboard.summary import scalar

        for step, values in rows:
            for name, value in values.items():
                self._write(summary=scalar(name, value), step=step)

    def image(self, name: str, image: Tensor, step: int) -> None:
        """See `Sink`."""
        from torch.utils.tensorboard.summary import image as summary

        self._write(summary=summary(name, image.numpy(), dataformats="CHW"), step=step)

    def histogram(self, name: str, values: npt.NDArray[Any], step: int) -> None:
        """See `Sink`."""
        from torch.utils.tensorboard.summary import histogram

        self._write(summary=histogram(name, values, _edges()), step=step)

    def settings(self, values: Mapping[str, Any]) -> None:
        """Write the settings for the tab HPARAMS. See `Sink`.

        Args:
            values: Name -> value.
        """
        from torch.utils.tensorboard.summary import hparams

        plain = {k: v if isinstance(v, bool | int | float) else str(v) for k, v in values.items()}
        for summary in hparams(plain, {_METRIC: 0.0}):
            self._write(summary=summary)

    def summary(self, step: int, values: Mapping[str, float]) -> None:
        """See `Sink`."""
        # One step after the last: TensorBoard hides these numbers when the run is resumed, also if
        # nothing was left to train.
        self.numbers([(step + 1, values)])

    def flush(self) -> None:
        """See `Sink`."""
        self._try(lambda: self._records.flush())

    def close(self) -> None:
        """See `Sink`."""
        self._try(lambda: self._records.close())
        self._records = None

    def _write(self, **content: Any) -> None:
        event = self._event(wall_time=time.time(), **content)
        self._try(lambda: self._records.write(event.SerializeToString()))
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self.flush()
            self._flushed = time.monotonic()

    def _try(self, action: Callable[[], object]) -> None:
        if self._records is None:
            return
        try:
            action()
        except (OSError, ValueError) as error:  # ValueError: a failed write closed the file
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._records = None
        if self._file is not None:
            with contextlib.suppress(OSError):  # close() tries to write the buffer first
                self._file.close()
        reason = getattr(error, "strerror", None) or error
        self._say(
            f"TensorBoard's file {self._path} cannot be written ({reason}): training continues"
            " without it"
        )


def _edges() -> npt.NDArray[np.float64]:
    """The edges of TensorBoard's default bins, -1e20..1e20; each is 1.1 times the one before."""
    rising = 1e-12 * 1.1 ** np.arange(775)
    return np.concatenate([-rising[::-1], [0.0], rising])
