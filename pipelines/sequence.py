"""The batches of a split in order, the position in them, and loops over them.

In: rendered requests from a `Prefetcher`. Out: `Batch`es on the device. The only state is the
position: the epoch, and the number of its samples that were handed out.
"""

from __future__ import annotations

import os
import time
from threading import get_ident
from typing import NamedTuple, NoReturn

import torch

from slipform.pipelines.batch import IGNORED_LABEL, Batch
from slipform.pipelines.errors import ConfigError, SlipformError
from slipform.pipelines.limits import MAX_EPOCH
from slipform.pipelines.order import EpochOrder
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.mix import mix
from slipform.pipelines.plan.mix_plan import draw_mix
from slipform.pipelines.prefetch import Prefetcher
from slipform.pipelines.read_ahead import Cancelled
from slipform.pipelines.samples import Samples
from slipform.pipelines.unclosed import close_when_freed
from slipform.pipelines.upload import upload

__all__ = ["BatchSequence", "Loop", "Progress"]

_POLL = 0.002  # seconds between two looks at whether a thread still waits for a batch


class Progress(NamedTuple):
    """What was handed out. It is one value, so that all of it changes at once.

    Attributes:
        epoch: The epoch of the next batch, from 0.
        seen: Samples of this epoch that were handed out, over all processes.
        num_bad: Samples that could not be read. A sample counts in each epoch.
        num_images: Images that were handed out on this process, including padding.
    """

    epoch: int = 0
    seen: int = 0
    num_bad: int = 0
    num_images: int = 0


class BatchSequence:
    """The batches of a split, from a position on. `Loader` builds it.

    Args:
        ahead: Source of the pixels. `close` closes it.
        samples: The samples and their labels.
        augment: The resolved augmentation. MixUp and CutMix are applied here.
        order: The order of the samples.
        device: Device of the batches.

    Attributes:
        order, ahead, samples, augment: As given.
        done: What was handed out.
        number: Number of the running loop. A loop with another number has ended.
    """

    def __init__(
        self,
        ahead: Prefetcher,
        samples: Samples,
        augment: Augmentation,
        order: EpochOrder,
        device: torch.device,
    ) -> None:
        self.order, self.ahead, self.number = order, ahead, 0
        # A Progress, or a plain tuple of the same: for each batch, that takes a call less.
        self._done: tuple[int, int, int, int] = Progress()
        self.samples, self.augment, self._device = samples, augment, device
        self._uploads, self._mixes = device.type == "cuda", bool(augment.mixup or augment.cutmix)
        self._process: int | None = os.getpid()  # None: closed
        self._taker: int | None = None  # the thread that waits for a batch
        # If `close` is not called: when the last loop and the Loader are freed, or at exit.
        self._unclosed = close_when_freed(self, ahead.close)

    def next(self) -> Batch:
        """Make the batch at the position, and move the position.

        This runs between two training steps, in caches that the step has filled: each function that
        is called costs several times as much as in a loop of its own.

        An exception leaves the position unchanged, so that the next call makes the same batch.

        Raises:
            SampleError: A sample cannot be read.
        """
        epoch, seen, num_bad, num_images = self._done
        self._taker = get_ident()
        try:
            batch, bad, (next_epoch, next_seen) = self.ahead.take((epoch, seen))
        finally:
            self._taker = None
        if bad:
            # Padding is rendered from sample 0. It does not count as bad if that cannot be read.
            bad = [i for i in bad if batch.indices[i] >= 0]
            batch.labels[bad] = IGNORED_LABEL
        if self._uploads:
            batch.labels = upload(batch.labels, self._device)
        size = self.order.size
        if self._mixes:
            number = self.order.batch_number(seen)
            if plan := draw_mix(self.augment, size, self.order.seed, epoch, number):
                batch = mix(batch, plan)
        # The position moves before the batch is handed out: a state that is saved after the
        # training step counts the batch as seen.
        self._done = (next_epoch, next_seen, num_bad + len(bad), num_images + size)
        return batch

    @property
    def done(self) -> Progress:
        """What was handed out."""
        return Progress(*self._done)

    @done.setter
    def done(self, done: Progress) -> None:
        self._done = done

    @property
    def is_remote(self) -> bool:
        """Whether batches may wait for samples from an object store."""
        return self.ahead.is_remote

    def await_samples(self, count: int = 1) -> bool:
        """Wait until the samples of the next batches are on this machine; see `Prefetcher`.

        Args:
            count: How many batches of this epoch.

        Returns:
            False: this process is asked to stop, and they are not there.

        Raises:
            StorageError: They cannot be fetched. The position is unchanged.
        """
        self.check_usable()
        return self.ahead.await_samples(self.done[:2], count)

    def loop(self, *, restart: bool) -> Loop:
        """Begin a loop and end the running one.

        Args:
            restart: True: begin at the beginning of the epoch. False: begin at the position.

        Raises:
            SlipformError: The loader is closed, or this process is a fork.
        """
        self.check_usable()
        if restart:
            self.done = self.done._replace(seen=0)
        self.number += 1
        return Loop(self)

    def go_to(self, epoch: int, seen: int) -> None:
        """Move the position and end the running loop.

        Args:
            epoch: The epoch, from 0.
            seen: Samples of it that count as handed out, over all processes.

        Raises:
            ConfigError: There is no such position.
            SlipformError: The loader is closed, or this process is a fork.
        """
        self.check_usable()
        self.check_position(epoch, seen)
        self.number += 1
        self.done = self.done._replace(epoch=epoch, seen=seen)

    def skip(self, batches: int) -> None:
        """Move the position past batches that were made elsewhere. This ends the running loop.

        Args:
            batches: Number of batches.

        Raises:
            SlipformError: The loader is closed, or this process is a fork.
        """
        self.check_usable()
        self.number += 1
        epoch, seen, num_bad, num_images = self.done
        for _ in range(batches):
            epoch, seen = self.order.after(epoch, seen)
        self.done = Progress(epoch, seen, num_bad, num_images + batches * self.order.size)

    def check_position(self, epoch: int, seen: int) -> None:
        """Check that there is a position.

        Args:
            epoch: The epoch, from 0.
            seen: Samples of it, over all processes.

        Raises:
            ConfigError: It is too large or negative.
        """
        if not (0 <= epoch <= MAX_EPOCH and 0 <= seen <= self.order.num_samples):
            raise ConfigError(
                f"epoch = {epoch}, seen = {seen}: give 0 to {MAX_EPOCH} and 0 to"
                f" {self.order.num_samples}"
            )

    @property
    def remaining_batches(self) -> int:
        """Batches of this epoch on this process that were not handed out yet."""
        left = self.order.num_samples - self.done.seen
        whole, rest = divmod(left, self.order.global_batch_size)
        return whole if self.order.drop_last or not rest else whole + 1

    def check_usable(self) -> None:
        """Check that this process built the loader and has not closed it.

        Raises:
            SlipformError: The loader is closed, or this process is a fork.
        """
        if self._process == os.getpid():
            return
        if self._process is None:
            raise SlipformError("this Loader is closed. Build a new one.")
        raise SlipformError(
            "this Loader belongs to the process that built it; its threads do not exist after a"
            ' fork. Build a Loader in a process started with "spawn".'
        )

    def close(self) -> None:
        """End the threads. A second call does nothing.

        Another thread may wait for a batch. It gets that batch, or an error if an object store does
        not have it: without the threads it would wait forever.
        """
        process, self._process = self._process, None
        if process == os.getpid():  # else the threads are in the parent
            while self._taker not in (None, get_ident()):
                self.ahead.cancel()
                time.sleep(_POLL)
            self.ahead.close()
            self._unclosed.detach()


class Loop:
    """The iterator of one loop: the batches from the position to the end of the epoch.

    Args:
        sequence: The batches.
    """

    def __init__(self, sequence: BatchSequence) -> None:
        self._sequence, self._number = sequence, sequence.number
        self._epoch, self._ended = sequence.done.epoch, False

    def __iter__(self) -> Loop:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise SlipformError(
            "a loop over a Loader cannot be pickled or copied. Build a Loader in each process, with"
            " rank and world_size, and hand over its state_dict() for the position."
        )

    def __next__(self) -> Batch:
        if self._ended:
            raise StopIteration
        sequence = self._sequence
        if sequence._process != os.getpid():
            sequence.check_usable()
        if sequence.number != self._number:
            raise SlipformError(
                "this loop over the Loader has ended: another one began, or the position was"
                " changed. Begin a new loop, or build a second Loader."
            )
        if not sequence.order.num_batches:
            sequence.done = Progress(self._epoch + 1)
        if sequence._done[0] != self._epoch:
            self._ended = True
            raise StopIteration
        try:
            return sequence.next()
        except Cancelled:
            sequence.check_usable()
            raise
        except SystemError as error:
            # A signal handler may raise while numba reads the arguments of a compiled function.
            # Python then raises a SystemError from that exception. With compiled functions inside
            # each other, it raises a SystemError from a SystemError.
            cause: BaseException = error
            while isinstance(cause, SystemError) and cause.__cause__ is not None:
                cause = cause.__cause__
            if cause is error:
                raise
            raise cause from None
