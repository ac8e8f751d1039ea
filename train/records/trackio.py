"""The sink "trackio": a run of trackio, which keeps its numbers on this machine.

In: the numbers of a run. Out: a run in the project, below TRACKIO_DIR; `trackio show` shows it. A
resumed run continues it: steps that it has already are left out.
"""

from __future__ import annotations

import contextlib
import io
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from slipform.train.records.sink import Place, Rows, Sink, required

__all__ = ["NAMES", "PACKAGE", "open_sink"]

PACKAGE = "trackio"
NAMES = ()  # nothing: it writes elsewhere


def open_sink(place: Place) -> Sink:
    """Open the sink.

    Args:
        place: The run; its name and key are the name of trackio's run.

    Raises:
        SlipformError: trackio is not installed.
    """
    required(PACKAGE)
    return _Trackio(place)


class _Trackio(Sink):
    def __init__(self, place: Place) -> None:
        from trackio.sqlite_storage import SQLiteStorage

        self._name = f"{place.name}-{place.key[:6]}"
        self._last: dict[str, int] = {}  # of each number that trackio has
        for one in SQLiteStorage.get_logs(place.project, self._name):
            self._last |= dict.fromkeys(one, int(one["step"]))
        self._place = place
        self._run: Any = None

    def settings(self, values: Mapping[str, Any]) -> None:
        self._open(dict(values))

    def numbers(self, rows: Rows) -> None:
        run = self._open({})
        for step, values in rows:
            new = {name: x for name, x in values.items() if step > self._last.get(name, 0)}
            if new:
                run.log(new, step=step)

    def summary(self, step: int, values: Mapping[str, float]) -> None:
        self.numbers([(step, values)])

    def close(self) -> None:
        if self._run is not None:
            with self._quiet():
                self._run.finish()

    def _open(self, config: dict[str, Any]) -> Any:
        """The run. trackio requires the settings at its start."""
        if self._run is None:
            import trackio

            with self._quiet():
                self._run = trackio.init(
                    project=self._place.project,
                    name=self._name,
                    config=config,
                    resume="allow",
                    embed=False,
                    auto_log_gpu=False,
                    auto_log_cpu=False,
                )
        return self._run

    @contextlib.contextmanager
    def _quiet(self) -> Iterator[None]:
        """Leave out what trackio prints, except for warnings: standard output is the user's."""
        with contextlib.redirect_stdout(_Output()) as output:
            yield
        for line in output.text.splitlines():
            if "warning" in line.lower():
                self._place.say(line)


class _Output(io.TextIOBase):
    """Standard output, without what this thread writes."""

    def __init__(self) -> None:
        self.text = ""  # of this thread
        self._thread, self._others = threading.get_ident(), sys.stdout

    def write(self, text: str) -> int:
        if threading.get_ident() != self._thread:
            return self._others.write(text)
        self.text += text
        return len(text)

    def flush(self) -> None:
        self._others.flush()
