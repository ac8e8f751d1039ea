"""What `train` prints at its end: the accuracy, the speed, and useful next commands.

In: the summary of a run. Out: lines.
"""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Any

import psutil

from slipform.pipelines.errors import printable
from slipform.train.records import accuracy_text, measured_split
from slipform.train.run.rates import rate_text

__all__ = ["next_lines", "result_lines"]


def result_lines(summary: dict[str, Any], run: Path) -> list[str]:
    """The accuracy, the speed and the time of a run, and the path of its curves.

    Args:
        summary: The summary of the run.
        run: The run folder.
    """
    accuracy, interval = accuracy_text(summary), ""
    if measured_split(summary) == "test" and summary["test_accuracy_interval"]:
        interval = "95 % interval {:.4f} to {:.4f}, ".format(*summary["test_accuracy_interval"])
    waiting = f"{summary['data_wait_share']:.1%} of the time waiting for data"
    return [
        *([f"{accuracy} ({interval}epoch {summary['best_epoch']})"] if accuracy else []),
        f"{rate_text(summary['images_per_second'])} in training, {waiting}",
        f"{summary['train_seconds']:.1f} s of training; {_process_seconds():.1f} s since the start"
        " of this command",
        f"curves: {printable(str(run / 'figures' / 'curves.png'))}",
    ]


def next_lines(summary: dict[str, Any], run: Path) -> list[str]:
    """The paths of the results, and next commands, each of which works for this run.

    Args:
        summary: The summary of the run. Without an accuracy there is no split for `validate`.
        run: The run folder.
    """
    shown, split = printable(str(run)), measured_split(summary)
    folder = shlex.quote(shown)
    chosen = "" if split == "test" else f" --split {split}"
    return [
        f"weights: {shown}/best.safetensors; numbers: {shown}/summary.json",
        "next:",
        *([f"  slipform validate {folder}{chosen} --report {folder}/report.html"] if split else []),
        f"  slipform predict {folder} IMAGE...",
        f"  slipform export {folder} --format onnx",
    ]


def _process_seconds() -> float:
    """Seconds since this process was started, including imports."""
    return time.time() - psutil.Process().create_time()
