"""What a run writes about itself while it trains: metrics.jsonl, TensorBoard, messages.

In: numbers that are on the host already. Out: files in the run folder. Only the main process'
Recorder writes anything.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from slipform.pipelines.errors import printable
from slipform.train.config.run_config import RunConfig
from slipform.train.records import METRICS, forget_after
from slipform.train.run.board import Board
from slipform.train.run.checkpoint import unwritable
from slipform.train.run.progress import ProgressLine, open_console

_HISTOGRAM_VALUES = 50_000  # AlexNet's 57 million weights would take seconds of every epoch


class Recorder:
    """Opens the run folder's records for appending. `step` steps and `epoch` epochs are behind a
    resumed run. Without `writes` it does nothing."""

    def __init__(self, run: Path, *, writes: bool, quiet: bool, step: int, epoch: int) -> None:
        self._run, self._writes = run, writes
        self._console = open_console(quiet or not writes)
        self.progress = ProgressLine(self._console)
        if writes:
            forget_after(run, step, epoch)
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
