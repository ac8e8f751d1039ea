"""The sink "csv", for spreadsheets: epochs.csv in the run folder, one line for each epoch, and
final.csv, one line for the result.

In: the numbers of epochs and of the result. Out: files that are complete after every write. A
resumed run removes the lines of epochs that it will write again, and replaces final.csv at its end.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slipform.pipelines.files import write_whole
from slipform.train.records import read_metrics
from slipform.train.records.sink import Place, Rows, Sink

__all__ = ["NAMES", "open_sink"]

NAMES = ("epochs.csv", "final.csv")


def open_sink(place: Place) -> Sink:
    """Open the sink.

    Args:
        place: The run.
    """
    return _Csv(place.folder)


class _Csv(Sink):
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._write_epochs()

    def numbers(self, rows: Rows) -> None:
        if any(name.startswith("epoch/") for _, values in rows for name in values):
            self._write_epochs()

    def summary(self, step: int, values: Mapping[str, float]) -> None:
        _write(self._folder / NAMES[1], list(values), [values])

    def _write_epochs(self) -> None:
        """Write all epochs of metrics.jsonl, which the run has written before."""
        lines = read_metrics(self._folder, "epoch")
        rows = [{name: x for name, x in line.items() if name != "kind"} for line in lines]
        columns = list(dict.fromkeys(name for row in rows for name in row))
        _write(self._folder / NAMES[0], columns or ["step", "epoch"], rows)


def _write(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue())
