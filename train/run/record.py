"""The records of a run: metrics.jsonl, the sinks of [records], messages.

In: numbers that are on the host already. Out: files in the run folder. Only the Recorder of the
main process writes.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from slipform.pipelines.errors import printable
from slipform.pipelines.number_text import number_text
from slipform.pipelines.workers import Task, Workers
from slipform.train.config.records import RecordsConfig
from slipform.train.config.run_config import RunConfig
from slipform.train.records import METRICS, forget_after, samples
from slipform.train.records.sink import Place, Sink, open_sinks
from slipform.train.run.checkpoint import unwritable
from slipform.train.run.progress import ProgressLine, open_console
from slipform.train.step.download import Download

__all__ = ["Recorder"]

_HISTOGRAM_VALUES = 50_000  # histograms of all weights of AlexNet take seconds in every epoch


class Recorder:
    """The records of a run, opened for appending.

    Args:
        run: The run folder.
        writes: Whether this process writes; otherwise all methods do nothing.
        quiet: Print no messages.
        step: Steps done before the run was resumed; later records are removed.
        epoch: Epochs done before the run was resumed; later records are removed.
        records: The settings of the sinks.

    Attributes:
        progress: The progress line.
    """

    def __init__(
        self,
        run: Path,
        *,
        writes: bool,
        quiet: bool,
        step: int,
        epoch: int,
        records: RecordsConfig | None = None,
    ) -> None:
        self._run, self._writes = run, writes
        self._console = open_console(quiet or not writes)
        self.progress = ProgressLine(self._console)
        if writes:
            forget_after(run, step, epoch)
            samples.forget_after(run, epoch)
            # Sinks are written on a thread: forty numbers of TensorBoard take some milliseconds.
            self._writer = Workers(1, "slipform-record")
            self._tasks: list[Task[None]] = []
            self._sinks: list[Sink] = []
            records = records or RecordsConfig()
            self._has_sinks = bool(records.sinks)
            name = records.name or run.resolve().name
            # Sinks keep the place: `self.say` would be a cycle.
            place = Place(run, records.project, name, step, partial(_say, self._console))
            # The file is open during the whole run. It comes last: nobody would close it if a later
            # step failed.
            self._lines = open(run / METRICS, "a", encoding="utf-8")  # noqa: SIM115
            self._later(lambda: self._sinks.extend(open_sinks(records.sinks, place)))

    def say(self, message: str) -> None:
        """Print a message for the user.

        Args:
            message: One or more lines.
        """
        _say(self._console, message)

    def settings(self, config: RunConfig) -> None:
        """Write the settings of the run to the sinks.

        Args:
            config: The settings.
        """
        if self._writes:
            values = config.model_dump(mode="json", exclude={"description"})
            flat = dict(_flat(values))
            self._each(lambda sink: sink.settings(flat))

    def steps(self, first: int, epoch: int, losses: list[float], rates: list[float]) -> None:
        """Record consecutive steps.

        Args:
            first: The first step, counted from 1 over the whole run.
            epoch: Their epoch, counted from 1.
            losses: The mean loss of each step.
            rates: The learning rate of each step.
        """
        if not self._writes or not losses:
            return
        self._append(
            {"kind": "step", "step": step, "epoch": epoch, "loss": loss, "lr": lr}
            for step, (loss, lr) in enumerate(zip(losses, rates, strict=True), start=first)
        )

        rows = [
            (step, {"train/loss": loss, "train/learning_rate": lr})
            for step, (loss, lr) in enumerate(zip(losses, rates, strict=True), start=first)
        ]
        self._each(lambda sink: sink.numbers(rows))
        self.progress.loss(sum(losses) / len(losses))

    def epoch(self, step: int, values: dict[str, Any]) -> None:
        """Record an epoch.

        Args:
            step: Steps of the run so far.
            values: "epoch" (counted from 1), and numbers by name; None where there is no number.
        """
        if not self._writes:
            return
        self._append([{"kind": "epoch", "step": step, **values}])

        row = {
            f"epoch/{name}": value
            for name, value in values.items()
            if value is not None and name != "epoch"
        }

        self._write_through(lambda sink: sink.numbers([(step, row)]))
        self.say(
            "  ".join(_shown(name, value) for name, value in values.items() if value is not None)
        )

    def summary(self, step: int, values: dict[str, Any]) -> None:
        """Write the result of the run to the sinks.

        Args:
            step: Steps of the run.
            values: The content of summary.json. The sinks get its plain numbers.
        """
        if self._writes:
            row = {
                f"final/{k}": value for k, value in values.items() if type(value) in (int, float)
            }
            self._write_through(lambda sink: sink.summary(step, row))

    def diverged(self, step: int, epoch: int, what: str) -> None:
        """Record that the run diverged. A resumed run that trains past this removes the record.

        Args:
            step: Steps of the run so far.
            epoch: The epoch, counted from 1.
            what: What is not finite.
        """
        if self._writes:
            self._append([{"kind": "diverged", "step": step, "epoch": epoch, "what": what}])

    def images(self, images: Tensor) -> None:
        """Write a grid of up to 16 training images to the sinks.

        The values of each image are scaled to 0..1.

        Args:
            images: Normalized images of the first batch, [N, 3, S, S], on any device.
        """
        if self._writes and self._has_sinks:
            from torchvision.utils import make_grid

            first = Download(images[:16].float())

            def write() -> None:
                grid = make_grid(first.result(), nrow=4, normalize=True, scale_each=True)
                for sink in self._sinks:
                    sink.image("train/first_batch", grid, 0)

            self._later(write)

    def histograms(self, model: nn.Module, step: int) -> None:
        """Write histograms of weights and gradients to the sinks.

        A histogram uses every n-th value: 50,000 to 100,000 values of a large parameter.

        Args:
            model: The plain net.
            step: Steps of the run so far.
        """
        if not (self._writes and self._has_sinks):
            return
        names, parts = [], []
        for name, parameter in model.named_parameters():
            for kind, tensor in (("weights", parameter), ("gradients", parameter.grad)):
                if tensor is not None:
                    names.append(f"{kind}/{name}")
                    parts.append(_sample(tensor.detach()))
        # One copy, for which this thread does not wait.
        sizes, values = [len(part) for part in parts], Download(torch.cat(parts))

        def write() -> None:
            for name, part in zip(names, values.result().split(sizes), strict=True):
                if part.isfinite().all():
                    for sink in self._sinks:
                        sink.histogram(name, part.numpy(), step)

        self._later(write)

    def close(self) -> None:
        """Close the files, and remove the progress line."""
        self.progress.close()
        if self._writes:
            with contextlib.suppress(OSError):  # each line was flushed when it was written
                self._lines.close()
            self._each(lambda sink: sink.close())
            try:
                self._finish()
            finally:
                self._writer.close()

    def _each(self, write: Callable[[Sink], None]) -> None:
        """Write to all sinks on the thread, in the order of these calls."""

        def all_of_them() -> None:
            for sink in self._sinks:
                write(sink)

        self._later(all_of_them)

    def _write_through(self, write: Callable[[Sink], None]) -> None:
        """Write to all sinks, and wait until they have written what they buffer."""
        self._each(write)
        self._each(lambda sink: sink.flush())
        self._finish()

    def _later(self, write: Callable[[], None]) -> None:
        self._tasks.append(self._writer.submit(write))

    def _finish(self) -> None:
        """Wait for what was given to the thread."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.result()

    def _append(self, lines: Iterable[dict[str, Any]]) -> None:
        try:
            self._lines.write("".join(json.dumps(values) + "\n" for values in lines))
            self._lines.flush()
        except OSError as error:
            error.filename = error.filename or str(self._run / METRICS)
            raise unwritable(error, "the run's metrics", self._run) from error


def _say(console: Console, message: str) -> None:
    console.print(printable(message), markup=False)


def _sample(values: Tensor) -> Tensor:
    """Every n-th value in the order of the memory, float32."""
    if values.ndim == 4 and not values.is_contiguous():
        values = values.permute(0, 2, 3, 1)
    return values.flatten()[:: max(1, values.numel() // _HISTOGRAM_VALUES)].float()


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
    return f"{name} {number_text(value)}"
