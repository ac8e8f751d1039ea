"""The sink "csv": epochs.csv in the run folder, one line for each epoch, for spreadsheets.

In: the numbers of epochs. Out: a file that is complete after every epoch. A resumed run removes the
lines that it will write again.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

from slipform.pipelines.files import write_whole
from slipform.train.records import read_metrics
from slipform.train.records.sink import Place, Rows, Sink

__all__ = ["NAMES", "open_sink"]

NAMES = ("epochs.csv",)


def open_sink(place: Place) -> Sink:
    """Open the sink.

    Args:
        place: The run.
    """
    return _Csv(place.folder)


class _Csv(Sink):
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._write()

    def numbers(self, rows: Rows) -> None:
        if any(name.startswith("epoch/") for _, values in rows for name in values):
            self._write()

    def _write(self) -> None:
        """Write all epochs of metrics.jsonl, which the run has written before."""
        lines = read_metrics(self._folder, "epoch")
        columns = list(dict.fromkeys(name for line in lines for name in line if name != "kind"))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns or ["step", "epoch"], lineterminator="\n")
        writer.writeheader()
        for line in lines:
            writer.writerow({name: value for name, value in line.items() if name != "kind"})
        write_whole(self._folder / NAMES[0], text.getvalue())
