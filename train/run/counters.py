"""The counters of a run: sums over the epoch, time, and numbers that are still on the device.

In: measurements of the loop. Out: shares, rates and an estimate of the time left; a state for
checkpoints. No function here waits for the device.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from slipform.pipelines.batch import Batch
from slipform.pipelines.loader import Loader
from slipform.pipelines.machine import others_cpu_seconds
from slipform.train.run.rates import rate_text
from slipform.train.run.samples import SampleRecord
from slipform.train.step.download import Download

__all__ = ["Counters", "EpochTotals", "PendingMetrics", "SentMetrics", "Span", "Timing", "advice"]

_LONG_RUN = 600.0  # seconds; a shorter run gets no advice


@dataclass
class Span:
    """The time and the images of a part of the training, without validation.

    Attributes:
        train_seconds: Seconds of training, including the time that it waited for data.
        wait_seconds: Seconds that it waited for data, in next(loader).
        images: Images trained on, of all processes together.
    """

    train_seconds: float = 0.0
    wait_seconds: float = 0.0
    images: int = 0

    @property
    def images_per_second(self) -> float:
        """The speed; 0 before the first step is done."""
        return self.images / self.train_seconds if self.train_seconds else 0.0

    @property
    def wait_share(self) -> float:
        """The share of the time, 0..1, that training waited for data."""
        return self.wait_seconds / self.train_seconds if self.train_seconds else 0.0


@dataclass
class Timing(Span):
    """The time of the whole run so far. A resumed run includes the parts before.

    Attributes:
        seconds_before: Seconds of the parts before the run was resumed.
        others_before: CPU seconds of other processes during these parts; None: unknown.
        began: The start of the present part, in seconds of time.perf_counter.
        others_began: CPU seconds of other processes at that time; None: unknown.
    """

    seconds_before: float = 0.0
    others_before: float | None = 0.0
    began: float = field(default_factory=time.perf_counter)
    others_began: float | None = field(default_factory=others_cpu_seconds)

    @property
    def seconds(self) -> float:
        """Seconds of all parts of the run, without the time between them."""
        return self.seconds_before + time.perf_counter() - self.began

    @property
    def others(self) -> float | None:
        """CPU seconds of other processes during the run; None: unknown."""
        now = others_cpu_seconds()
        if self.others_before is None or self.others_began is None or now is None:
            return None
        return self.others_before + max(0.0, now - self.others_began)

    @property
    def others_share(self) -> float | None:
        """The share of the machine's cores, 0..1, that other processes used; None: unknown."""
        others, cores = self.others, os.cpu_count()
        if others is None or cores is None or self.seconds <= 0:
            return None
        return round(others / self.seconds / cores, 4)


@dataclass
class EpochTotals(Span):
    """Sums over the epoch so far, of all processes together.

    The numbers of the newest steps are still on the device: `counted` is smaller than `images`.

    Attributes:
        loss: The sum of the losses of the counted images.
        correct: How many of the counted images were classified correctly.
        counted: The number of images in `loss` and `correct`.
    """

    loss: float = 0.0
    correct: float = 0.0
    counted: int = 0

    def add(self, loss: float, correct: float, images: int) -> None:
        """Count one step.

        Args:
            loss: The mean loss of the step, over all processes.
            correct: Images of all processes that were classified correctly.
            images: Images of all processes.
        """
        self.loss += loss * images
        self.correct += correct
        self.counted += images

    @property
    def mean_loss(self) -> float:
        """The mean loss of the counted images; 0 if there are none."""
        return self.loss / max(self.counted, 1)

    @property
    def accuracy(self) -> float:
        """The accuracy on the counted images, 0..1; 0 if there are none."""
        return self.correct / max(self.counted, 1)


@dataclass
class PendingMetrics:
    """The numbers of the newest steps, one entry for each step.

    Attributes:
        losses: Mean losses of this process: float32 on the device, of one launch in each tensor.
        correct: Images of this process that were classified correctly: int64, in the same way.
        images: Images of all processes.
        rates: Learning rates.
    """

    losses: list[Tensor] = field(default_factory=list)
    correct: list[Tensor] = field(default_factory=list)
    images: list[int] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class SentMetrics:
    """The numbers of some steps on their way to the host.

    Attributes:
        numbers: Losses, then correct images; one of each for each step, averaged over processes.
        first_step: The first step, counted from 1 over the whole run.
        epoch: Their epoch, counted from 1.
        images: Images of all processes, of each step.
        rates: Learning rates of the steps.
    """

    numbers: Download
    first_step: int
    epoch: int
    images: list[int]
    rates: list[float]


@dataclass
class Counters:
    """All counters of a run.

    Attributes:
        timing: The time of the whole run.
        epoch: The sums over the present epoch.
        pending: Numbers still on the device; empty whenever a checkpoint is written.
        sent: Numbers on their way to the host; None whenever a checkpoint is written.
        samples: The observations of single images; None without records.samples.
        paused_seconds: Seconds of `paused` blocks so far, in this process.
        in_training: Whether `timed` measures the time between two batches now.
    """

    timing: Timing = field(default_factory=Timing)
    epoch: EpochTotals = field(default_factory=EpochTotals)
    pending: PendingMetrics = field(default_factory=PendingMetrics)
    sent: SentMetrics | None = None
    samples: SampleRecord | None = None
    paused_seconds: float = 0.0
    in_training: bool = False

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Within the block, no time counts as training: a checkpoint or a figure is written."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.paused_seconds += time.perf_counter() - began

    def timed(self, loader: Loader) -> Iterator[Batch]:
        """Iterate over a loader, and measure the training and the waiting time of each batch.

        A batch and its time are counted when the next batch is requested.

        Args:
            loader: The loader of the training split.

        Yields:
            The batches of the loader.
        """
        batches, spans = iter(loader), (self.timing, self.epoch)
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            waited = time.perf_counter() - began
            if batch is None:
                return
            for span in spans:
                span.wait_seconds += waited
                span.train_seconds += waited
            resumed, self.in_training = time.perf_counter() - self.paused_seconds, True
            yield batch
            self.in_training = False
            seconds = time.perf_counter() - self.paused_seconds - resumed
            for span in spans:
                span.train_seconds += seconds
                span.images += loader.global_batch_size

    def waited(self, seconds: float) -> None:
        """Count time of waiting for samples between two steps.

        Args:
            seconds: Seconds. `timed` counts them as training if a batch was requested before.
        """
        for span in (self.timing, self.epoch):
            span.wait_seconds += seconds
            span.train_seconds += 0.0 if self.in_training else seconds

    def add(self, seconds: float, images: int) -> None:
        """Count time in training and images trained on.

        Args:
            seconds: Seconds of training, without waiting for data.
            images: Images of all processes together.
        """
        for span in (self.timing, self.epoch):
            span.train_seconds += seconds
            span.images += images

    def state_dict(self) -> dict[str, Any]:
        """The counters as plain values and tensors, for a checkpoint. Every process calls this."""
        timing = asdict(self.timing) | {
            "seconds_before": self.timing.seconds,
            "others_before": self.timing.others,
        }
        del timing["began"], timing["others_began"]
        samples = None if self.samples is None else self.samples.state_dict()
        return {"timing": timing, "epoch": asdict(self.epoch), "samples": samples}

    @staticmethod
    def from_checkpoint(saved: dict[str, Any]) -> Counters:
        """Restore the counters in a checkpoint.

        Checkpoints of version 0.1 have them in the TrainState, with the loss as a sum over batches.

        Args:
            saved: The content of the checkpoint.
        """
        if "counters" in saved:
            found = saved["counters"]
            timing = {"others_before": None, **found["timing"]}
            return Counters(Timing(**timing), EpochTotals(**found["epoch"]))
        running = dict(saved["state"]["running"])
        batches, images = running.pop("batches"), running["images"]
        running |= {"loss": running["loss"] / max(batches, 1) * images, "counted": images}
        timing = {"others_before": None, **saved["state"]["clock"]}
        return Counters(Timing(**timing), EpochTotals(**running))


def advice(images: int, per_second: float, *, pretrained: bool, time_shown: bool) -> str:
    """A text about how long a run will take, and what would make it faster.

    Args:
        images: Images left to train on, in all epochs together.
        per_second: Images per second so far.
        pretrained: Whether the run started from pretrained weights.
        time_shown: Whether a progress line shows the time left; the text then omits it.

    Returns:
        One or two sentences; "" if less than ten minutes are left.
    """
    seconds = images / per_second if per_second else 0.0
    if seconds < _LONG_RUN:
        return ""
    hours, minutes = divmod(round(seconds / 60), 60)
    length = f"{hours} h {minutes} min" if hours else f"{minutes} min"
    start = "" if pretrained else " --recipe finetune (pretrained weights),"
    rate = f"at {rate_text(per_second)}, without validation"
    return ("this run is long" if time_shown else f"about {length} left {rate}") + (
        f". Faster:{start} a smaller augment.image_size, fewer train.epochs or a smaller model.name"
    )
