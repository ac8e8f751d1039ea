"""The records in a run folder: metrics.jsonl and summary.json.

In: a run folder, whose files may be damaged or of another program. Out: lines and values of the
right types. Damaged ones count as missing. This module does not import torch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from slipform.pipelines.errors import SlipformError
from slipform.pipelines.files import open_regular, write_whole

__all__ = [
    "METRICS",
    "SUMMARY",
    "accuracy_text",
    "forget_after",
    "measured_split",
    "read_metrics",
    "read_summary",
    "write_summary",
]

METRICS = "metrics.jsonl"
SUMMARY = "summary.json"


def read_metrics(run: Path, kind: str) -> list[dict[str, Any]]:
    """Read the lines of one kind in metrics.jsonl.

    Args:
        run: The run folder.
        kind: "step", "epoch" or "diverged".

    Returns:
        The values of the lines, in order. Damaged lines, such as a partial one, are left out.
    """
    return [values for values in _read_lines(run / METRICS) if values["kind"] == kind]


def read_summary(run: Path) -> dict[str, Any] | None:
    """Read the summary of a finished run.

    Args:
        run: The run folder.

    Returns:
        The content of summary.json; None if the run is not finished or the file is damaged.
    """
    try:
        with open_regular(run / SUMMARY) as file:
            values = json.loads(file.read())
    except (SlipformError, ValueError, RecursionError):
        return None
    if isinstance(values, dict) and "loader" in values:
        values.setdefault("executor", values.pop("loader"))  # its name in version 0.1
    if not isinstance(values, dict) or not _fits(values, _SUMMARY_TYPES):
        return None
    return {**dict.fromkeys(_SUMMARY_TYPES), **values} if values["epochs"] > 0 else None


def measured_split(summary: dict[str, Any]) -> str | None:
    """The split whose accuracy is the result of a run: "test", or "val" if test has none.

    Args:
        summary: The content of summary.json.

    Returns:
        None if neither has one: the dataset has no images for them, or no labels for mAP.
    """
    return next((s for s in ("test", "val") if summary[f"{s}_accuracy"] is not None), None)


def accuracy_text(summary: dict[str, Any]) -> str:
    """The result of a run as text: "test accuracy 0.9130", "val mAP 0.5512".

    Args:
        summary: The content of summary.json.

    Returns:
        "" if there is no result; see `measured_split`.
    """
    split = measured_split(summary)
    name = "mAP" if summary.get("labels") == "multi" else "accuracy"
    return f"{split} {name} {summary[f'{split}_accuracy']:.4f}" if split else ""


def write_summary(run: Path, values: dict[str, Any]) -> None:
    """Write summary.json, completely or not at all.

    Args:
        run: The run folder.
        values: Plain values by name.

    Raises:
        OSError: It cannot be written.
    """
    write_whole(run / SUMMARY, json.dumps(values, indent=1) + "\n")


_NUMBER = (int, float)
_NUMBER_OR_NONE = (int, float, type(None))
# The entries that sweeps and users read.
_SUMMARY_TYPES: dict[str, Any] = {
    "test_accuracy": _NUMBER_OR_NONE,
    "val_accuracy": _NUMBER_OR_NONE,
    "best_epoch": int,
    "epochs": int,
    "seconds": _NUMBER,
    "images_per_second": _NUMBER,
    "machine": str,
    "torch": str,
    "precision": str,
    "compiled": bool,
    "executor": str,
}
_LINE_TYPES: dict[str, dict[str, Any]] = {
    "step": {"step": int, "epoch": int, "loss": _NUMBER, "lr": _NUMBER},
    "epoch": {
        "step": int,
        "epoch": int,
        "train_loss": _NUMBER,
        "train_accuracy": _NUMBER,
        "val_loss": _NUMBER_OR_NONE,
        "val_accuracy": _NUMBER_OR_NONE,
    },
    "diverged": {"step": int, "epoch": int, "what": str},
}


def _read_lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    with open_regular(path) as file:
        texts = file.read().splitlines()
    return [values for text in texts if (values := _parsed(text)) is not None]


def _parsed(text: bytes) -> dict[str, Any] | None:
    """The values of a line; None if it is damaged."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return None
    kind = values.get("kind") if isinstance(values, dict) else None
    types = _LINE_TYPES.get(kind) if isinstance(kind, str) else None
    if types is None or not _fits(values, types):
        return None
    return {**dict.fromkeys(types), **values}


def _fits(values: dict[str, Any], types: dict[str, Any]) -> bool:
    """Whether values have the right types, and whole numbers have 64 bits at most: JSON's may have
    thousands of digits, which no float can hold."""
    return all(
        isinstance(value := values.get(name), kind)
        and not (isinstance(value, int) and abs(value) >= 2**63)
        for name, kind in types.items()
    )


def forget_after(run: Path, step: int, epoch: int) -> None:
    """Remove the lines of metrics.jsonl that a resumed run will write again.

    At its end, the file is like that of a run without interruption.

    Args:
        run: The run folder.
        step: Lines of later steps are removed.
        epoch: Lines of later epochs are removed.
    """
    kept = [
        x
        for x in _read_lines(run / METRICS)
        if (x["step"] <= step if x["kind"] == "step" else x["epoch"] <= epoch)
    ]
    write_whole(run / METRICS, "".join(json.dumps(x) + "\n" for x in kept))
