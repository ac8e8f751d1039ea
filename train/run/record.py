"""What a run writes about itself: metrics.jsonl, TensorBoard, a progress bar, messages.

In: numbers that are on the host already. Out: files in the run folder. Only the main process'
Recorder writes anything.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from torch import Tensor, nn

from slipform.train.step.state import Span

METRICS = "metrics.jsonl"
SUMMARY = "summary.json"
_HISTOGRAM_VALUES = 50_000  # AlexNet's 57 million weights would take seconds of every epoch


class Recorder:
    """Opens the run folder's records for appending. `step` steps and `epoch` epochs are behind a
    resumed run."""

    def __init__(self, run: Path, *, writes: bool, quiet: bool, step: int, epoch: int) -> None:
        self._writes = writes
        self._console = Console(
            stderr=True, quiet=quiet or not writes, highlight=False, soft_wrap=True
        )
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
        )
        numbers = TextColumn(
            "{task.fields[rate]:.0f} images/s, {task.fields[wait]:.0%} waiting for data"
        )
        shown = self._console.is_terminal and not quiet and writes
        self._progress = Progress(
            *columns,
            numbers,
            TimeRemainingColumn(),
            console=self._console,
            disable=not shown,
            transient=True,
        )
        self._task: TaskID | None = None
        if not writes:
            return
        from torch.utils.tensorboard import SummaryWriter

        _forget_after(run / METRICS, step, epoch)
        self._lines = open(run / METRICS, "a", encoding="utf-8")  # noqa: SIM115 (open as long as the run)
        self._board = SummaryWriter(str(run), purge_step=step + 1 if step else None)

    def say(self, message: str) -> None:
        """A line for the person who watches."""
        self._console.print(message, markup=False)

    def steps(self, first: int, epoch: int, losses: list[float], rates: list[float]) -> None:
        """One line a step, from step number `first` on (counted from 1)."""
        if not self._writes:
            return
        for step, (loss, lr) in enumerate(zip(losses, rates, strict=True), start=first):
            self._line({"kind": "step", "step": step, "epoch": epoch, "loss": loss, "lr": lr})
            self._board.add_scalar("train/loss", loss, step)
            self._board.add_scalar("train/learning_rate", lr, step)
        self._lines.flush()

    def epoch(self, step: int, values: dict[str, Any]) -> None:
        """The line of a whole epoch; values has "epoch" (files count from 1) and numbers."""
        if not self._writes:
            return
        self._line({"kind": "epoch", "step": step, **values})
        self._lines.flush()
        for name, value in values.items():
            if value is not None and name != "epoch":
                self._board.add_scalar(f"epoch/{name}", value, step)
        self._board.flush()
        self.say(
            "  ".join(_shown(name, value) for name, value in values.items() if value is not None)
        )

    def diverged(self, step: int, epoch: int, what: str) -> None:
        """The last line of a run that has no end; a resumed run that gets past it forgets it."""
        if self._writes:
            self._line({"kind": "diverged", "step": step, "epoch": epoch, "what": what})

    def images(self, images: Tensor) -> None:
        """A grid of up to 16 images of the first batch, as the net sees them, each stretched to the
        full range."""
        if self._writes:
            from torchvision.utils import make_grid

            grid = make_grid(
                images[:16].detach().float().cpu(), nrow=4, normalize=True, scale_each=True
            )
            self._board.add_image("train/first_batch", grid, 0)

    def histograms(self, model: nn.Module, step: int) -> None:
        """Weights and gradients of each layer, from every n-th value."""
        if not self._writes:
            return
        for name, parameter in model.named_parameters():
            for kind, tensor in (("weights", parameter), ("gradients", parameter.grad)):
                if tensor is not None:
                    values = (
                        tensor.detach()
                        .flatten()[:: max(1, tensor.numel() // _HISTOGRAM_VALUES)]
                        .float()
                        .cpu()
                    )
                    if values.isfinite().all():
                        self._board.add_histogram(f"{kind}/{name}", values.numpy(), step)

    def begin_epoch(self, epoch: int, epochs: int, done: int, num_batches: int) -> None:
        if self._task is None:
            self._progress.start()
            self._task = self._progress.add_task("", total=num_batches, rate=0.0, wait=0.0)
        self._progress.reset(
            self._task, total=num_batches, completed=done, description=f"epoch {epoch}/{epochs}"
        )

    def batch(self, epoch: Span) -> None:
        """One batch more was trained on in this epoch; costs nothing where nobody watches."""
        if not self._progress.disable and self._task is not None:
            self._progress.update(
                self._task, advance=1, rate=epoch.images_per_second, wait=epoch.wait_share
            )

    def close(self) -> None:
        self._progress.stop()
        if self._writes:
            self._lines.close()
            self._board.close()

    def _line(self, values: dict[str, Any]) -> None:
        self._lines.write(json.dumps(values) + "\n")


def read_metrics(run: Path, kind: str) -> list[dict[str, Any]]:
    """The lines of one kind, "step", "epoch" or "diverged", in order. A line cut off by a crash is
    left out."""
    return [values for values in _read_lines(run / METRICS) if values["kind"] == kind]


def _read_lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


def _forget_after(path: Path, step: int, epoch: int) -> None:
    """Drop the lines that a resumed run will write again, so that the file is that of an
    undisturbed run."""
    kept = [
        x
        for x in _read_lines(path)
        if (x["step"] <= step if x["kind"] == "step" else x["epoch"] <= epoch)
    ]
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text("".join(json.dumps(x) + "\n" for x in kept), encoding="utf-8")
    temporary.replace(path)


def _shown(name: str, value: float) -> str:
    if name == "epoch":
        return f"epoch {value}"
    if name.endswith(("accuracy", "share")):
        return f"{name} {value:.4f}"
    return f"{name} {value:.4g}" if math.isfinite(value) else f"{name} {value}"


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)
