"""How far a run is and what it has cost: sums over the epoch, time, numbers still on the device.

In: what the loop measures. Out: shares, rates and an estimate of the time left; a state that a
checkpoint holds beside the TrainState. Nothing here waits for the device.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from slipform.pipelines.batch import Batch
from slipform.pipelines.loader import Loader

__all__ = ["Counters", "EpochTotals", "PendingMetrics", "Span", "Timing", "advice"]

_WORTH_SAYING = 600.0  # seconds: a shorter run needs no advice


@dataclass
class Span:
    """What some training has cost, without validation.

    Args:
        train_seconds: Time in training, waiting included.
        wait_seconds: Of those: in next(loader).
        images: Images trained on, all processes together.
    """

    train_seconds: float = 0.0
    wait_seconds: float = 0.0
    images: int = 0

    @property
    def images_per_second(self) -> float:
        """0 before the first step is done."""
        return self.images / self.train_seconds if self.train_seconds else 0.0

    @property
    def wait_share(self) -> float:
        """The share of the time that was waiting for data, 0..1."""
        return self.wait_seconds / self.train_seconds if self.train_seconds else 0.0


@dataclass
class Timing(Span):
    """What the run has cost so far, with its earlier parts where it was resumed."""

    seconds_before: float = 0.0  # of earlier parts
    began: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """Since the start of the run's first part, without the time between the parts."""
        return self.seconds_before + time.perf_counter() - self.began


@dataclass
class EpochTotals(Span):
    """Sums over the epoch so far, all processes together.

    Args:
        loss: Sum over the images read from the device of the loss.
        correct: How many of them were right.
        counted: How many images that are. It lags behind `images`, which counts those trained on.
    """

    loss: float = 0.0
    correct: float = 0.0
    counted: int = 0

    def add(self, loss: float, correct: float, images: int) -> None:
        """Count one step: its mean loss, its right answers, its images, of all processes."""
        self.loss += loss * images
        self.correct += correct
        self.counted += images

    @property
    def mean_loss(self) -> float:
        """Over the images counted; 0 where there is none."""
        return self.loss / max(self.counted, 1)

    @property
    def accuracy(self) -> float:
        """Share of the images counted, 0..1."""
        return self.correct / max(self.counted, 1)


@dataclass
class PendingMetrics:
    """Numbers of steps still on the device: mean loss and right answers of this process; and on
    the host the images of all processes and the learning rate."""

    losses: list[Tensor] = field(default_factory=list)
    correct: list[Tensor] = field(default_factory=list)
    images: list[int] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)


@dataclass
class Counters:
    """What the loop counts. `pending` is empty whenever this is saved."""

    timing: Timing = field(default_factory=Timing)
    epoch: EpochTotals = field(default_factory=EpochTotals)
    pending: PendingMetrics = field(default_factory=PendingMetrics)

    def timed(self, loader: Loader, world_size: int) -> Iterator[Batch]:
        """The loader's batches; measures the training on each and the waiting for it.

        A batch is counted, with its time, when the next one is asked for.

        Args:
            loader: Where the batches come from.
            world_size: Number of processes, each of which trains on as many images.
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
            resumed, images = time.perf_counter(), len(batch) * world_size
            yield batch
            seconds = time.perf_counter() - resumed
            for span in spans:
                span.train_seconds += seconds
                span.images += images

    def state_dict(self) -> dict[str, Any]:
        """Plain values only."""
        timing = asdict(self.timing) | {"seconds_before": self.timing.seconds}
        del timing["began"]
        return {"timing": timing, "epoch": asdict(self.epoch)}

    @staticmethod
    def from_checkpoint(saved: dict[str, Any]) -> Counters:
        """The counters in a checkpoint.

        Checkpoints of version 0.1 hold it in the TrainState, the loss as a sum over batches.
        """
        if "counters" in saved:
            found = saved["counters"]
            return Counters(Timing(**found["timing"]), EpochTotals(**found["epoch"]))
        running = dict(saved["state"]["running"])
        batches, images = running.pop("batches"), running["images"]
        running |= {"loss": running["loss"] / max(batches, 1) * images, "counted": images}
        return Counters(Timing(**saved["state"]["clock"]), EpochTotals(**running))


def advice(images: int, per_second: float, *, pretrained: bool, time_shown: bool) -> str:
    """What would be quicker than this run, and how long it will still take.

    Args:
        images: Images still to train on, all epochs together.
        per_second: Images per second so far.
        pretrained: Whether the run started from pretrained weights.
        time_shown: Whether a progress line shows the time left; it is then not repeated.

    Returns:
        A sentence or two; "" for a run of less than ten minutes.
    """
    seconds = images / per_second if per_second else 0.0
    if seconds < _WORTH_SAYING:
        return ""
    hours, minutes = divmod(round(seconds / 60), 60)
    length = f"{hours} h {minutes} min" if hours else f"{minutes} min"
    start = "" if pretrained else " --recipe finetune (pretrained weights),"
    rate = f"at {per_second:.0f} images/s, without validation"
    return ("this run is long" if time_shown else f"about {length} to go {rate}") + (
        f". Quicker:{start} a smaller augment.image_size, fewer train.epochs or a smaller"
        " model.name"
    )
