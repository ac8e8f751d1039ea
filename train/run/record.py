"""What a run writes about itself: metrics.jsonl, summary.json, TensorBoard, messages.

In: numbers that are on the host already. Out: files in the run folder, and what is read back of
them. Only the main process' Recorder writes anything.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from slipform.pipelines.errors import SlipformError, printable
from slipform.pipelines.files import open_regular, write_whole
from slipform.train.config.run_config import RunConfig
from slipform.train.run.board import Board
from slipform.train.run.checkpoint import unwritable
from slipform.train.run.progress import ProgressLine, open_console

METRICS = "metrics.jsonl"
SUMMARY = "summary.json"
_HISTOGRAM_VALUES = 50_000  # AlexNet's 57 million weights would take seconds of every epoch


class Recorder:
    """Opens the run folder's records for appending. `step` steps and `epoch` epochs are behind a
    resumed run. Without `writes` it does nothing."""

    def __init__(self, run: Path, *, writes: bool, quiet: bool, step: int, epoch: int) -> None:
        self._run, self._writes = run, writes
        self._console = open_console(quiet or not writes)
        self.progress = ProgressLine(self._console)
        if writes:
            _forget_after(run, step, epoch)
            self._lines = open(run / METRICS, "a", encoding="utf-8")  # noqa: SIM115 (open as long as the run)
            self._board = Board(run, step, self.say)

    def say(self, message: str) -> None:
        """A line for the person who watches."""
        self._console.print(printable(message), markup=False)

    def settings(self, config: RunConfig) -> None:
        """The run's settings, for TensorBoard."""
        if self._writes:
            values = config.model_dump(mode="json", exclude={"description"})
            self._board.settings(dict(_flat(values)), "epoch/val_accuracy")

    def steps(self, first: int, epoch: int, losses: list[float], rates: list[float]) -> None:
        """One line a step, from step number `first` on (counted from 1)."""
        if not self._writes or not losses:
            return
        self._append(
            {"kind": "step", "step": step, "epoch": epoch, "loss": loss, "lr": lr}
            for step, (loss, lr) in enumerate(zip(losses, rates, strict=True), start=first)
        )
        for step, (loss, lr) in enumerate(zip(losses, rates, strict=True), start=first):
            self._board.scalar("train/loss", loss, step)
            self._board.scalar("train/learning_rate", lr, step)
        self.progress.loss(sum(losses) / len(losses))

    def epoch(self, step: int, values: dict[str, Any]) -> None:
        """The line of a whole epoch; values has "epoch" (files count from 1) and numbers."""
        if not self._writes:
            return
        self._append([{"kind": "epoch", "step": step, **values}])
        for name, value in values.items():
            if value is not None and name != "epoch":
                self._board.scalar(f"epoch/{name}", value, step)
        self._board.flush()
        self.say(
            "  ".join(_shown(name, value) for name, value in values.items() if value is not None)
        )

    def diverged(self, step: int, epoch: int, what: str) -> None:
        """The last line of a run that has no end; a resumed run that gets past it forgets it."""
        if self._writes:
            self._append([{"kind": "diverged", "step": step, "epoch": epoch, "what": what}])

    def images(self, images: Tensor) -> None:
        """A grid of up to 16 images of the first batch, as the net sees them, each stretched to the
        full range."""
        if self._writes:
            from torchvision.utils import make_grid

            grid = make_grid(
                images[:16].detach().float().cpu(), nrow=4, normalize=True, scale_each=True
            )
            self._board.image("train/first_batch", grid, 0)

    def histograms(self, model: nn.Module, step: int) -> None:
        """Weights and gradients of each layer, from every n-th value."""
        if not self._writes:
            return
        for name, parameter in model.named_parameters():
            for kind, tensor in (("weights", parameter), ("gradients", parameter.grad)):
                if tensor is not None:
                    every = max(1, tensor.numel() // _HISTOGRAM_VALUES)
                    values = tensor.detach().flatten()[::every].float().cpu()
                    if values.isfinite().all():
                        self._board.histogram(f"{kind}/{name}", values.numpy(), step)

    def close(self) -> None:
        self.progress.close()
        if self._writes:
            with contextlib.suppress(OSError):  # each line was flushed when it was written
                self._lines.close()
            self._board.close()

    def _append(self, lines: Iterable[dict[str, Any]]) -> None:
        try:
            self._lines.write("".join(json.dumps(values) + "\n" for values in lines))
            self._lines.flush()
        except OSError as error:
            error.filename = error.filename or str(self._run / METRICS)
            raise unwritable(error, "the run's metrics", self._run) from error


def read_metrics(run: Path, kind: str) -> list[dict[str, Any]]:
    """The lines of one kind, "step", "epoch" or "diverged", in order. Damaged lines, such as one
    cut off by a crash, are left out."""
    return [values for values in _read_lines(run / METRICS) if values["kind"] == kind]


def read_summary(run: Path) -> dict[str, Any] | None:
    """summary.json of a finished run; None where the run is not finished or the file is damaged."""
    try:
        with open_regular(run / SUMMARY) as file:
            values = json.loads(file.read())
    except (SlipformError, ValueError, RecursionError):
        return None
    whole = isinstance(values, dict) and all(
        isinstance(values.get(name), kind) for name, kind in _SUMMARY_TYPES.items()
    )
    return values if whole and values["epochs"] > 0 else None


def write_summary(run: Path, values: dict[str, Any]) -> None:
    """Whole or not at all."""
    write_whole(run / SUMMARY, json.dumps(values, indent=1) + "\n")


_NUMBER = (int, float)
_NUMBER_OR_NONE = (int, float, type(None))
# What sweeps and people read of it.
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
    "loader": str,
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
    """The values of a line; None where it is damaged."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return None
    kind = values.get("kind") if isinstance(values, dict) else None
    types = _LINE_TYPES.get(kind) if isinstance(kind, str) else None
    if types is None or not all(isinstance(values.get(k), types[k]) for k in types):
        return None
    return dict(values)


def _forget_after(run: Path, step: int, epoch: int) -> None:
    """Drop the lines that a resumed run will write again, so that the file is that of an
    undisturbed run."""
    kept = [
        x
        for x in _read_lines(run / METRICS)
        if (x["step"] <= step if x["kind"] == "step" else x["epoch"] <= epoch)
    ]
    write_whole(run / METRICS, "".join(json.dumps(x) + "\n" for x in kept))


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """{"train": {"seed": 0}} -> ("train.seed", 0)."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _shown(name: str, value: float) -> str:
    if name == "epoch":
        return f"epoch {value}"
    if name.endswith(("accuracy", "share")):
        return f"{name} {value:.4f}"
    return f"{name} {value:.4g}" if math.isfinite(value) else f"{name} {value}"
