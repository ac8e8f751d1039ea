"""The loader: a dataset folder -> batches on the device, for as many epochs as asked for, from any
position.

In: a folder that `prep` wrote, an Augmentation, a seed. Out: `Batch`es. What batch k of epoch e
holds is a pure function of (seed, e, k); the loader's only state is its position (epoch, samples of
it already handed out).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import torch

from slipform.pipelines.batch import IGNORED_LABEL, Batch
from slipform.pipelines.beton import JPG, Beton
from slipform.pipelines.errors import ConfigError, SampleError
from slipform.pipelines.executors import choose
from slipform.pipelines.executors.contract import BatchRequest, Settings
from slipform.pipelines.machine import num_cores
from slipform.pipelines.manifest import Manifest, read_manifest
from slipform.pipelines.order import EpochOrder
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.mix import mix
from slipform.pipelines.plan.plan import draw, draw_mix
from slipform.pipelines.profile import profile_key, read_profile
from slipform.pipelines.upload import upload


class Loader:
    """Iterating gives one epoch, from the position on; the next iteration gives the next epoch,
    already being prepared.

    folder, split: what to read. augment: what to do with it; with training=False its
    `evaluation()`, in stored order, the last batch padded (labels -100, indices -1). batch_size:
    per process; rank, world_size: which part of the global batch is ours. executor: "auto", "dali",
    "host" or "resident". threads, prefetch (batches made ahead): 0 takes what `bench tune` found
    here, else the processors this process may use, and 2. on_bad: "error", or "skip", which gives
    unreadable samples the label -100 and counts them. block: 0, or, for data larger than memory,
    how many neighbors on the disk stay near each other in the shuffled order (see EpochOrder).
    """

    def __init__(
        self,
        folder: Path | str,
        split: str = "train",
        augment: Augmentation | None = None,
        *,
        batch_size: int,
        training: bool = True,
        seed: int = 0,
        executor: str = "auto",
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        rank: int = 0,
        world_size: int = 1,
        threads: int = 0,
        prefetch: int = 0,
        on_bad: str = "error",
        block: int = 0,
    ) -> None:
        if on_bad not in ("error", "skip"):
            raise ConfigError(f'on_bad = "{on_bad}": give "error" or "skip"')
        if min(seed, prefetch, block) < 0:
            raise ConfigError(
                f"seed = {seed}, prefetch = {prefetch}, block = {block}: give 0 or more"
            )
        self.manifest: Manifest = read_manifest(Path(folder))
        self.split, self.training, self.seed = split, training, seed
        self.device = torch.device(device)
        self._beton = Beton(Path(folder) / self.manifest.split(split).file)
        spec = augment or Augmentation()
        self.augment = (spec if training else spec.evaluation()).resolved(
            self.manifest.mean, self.manifest.std
        )
        self.block = block if training else 0
        self.order = EpochOrder(
            len(self._beton),
            batch_size,
            seed,
            shuffle=training,
            drop_last=training,
            rank=rank,
            world_size=world_size,
            block=self.block,
        )
        stored = "jpeg" if (self._beton.modes == JPG).any() else "raw"
        key = profile_key(stored, self.augment.image_size, str(self.device))
        tuned = read_profile(key) if executor == "auto" else {}
        threads = threads or int(tuned.get("threads", 0)) or num_cores()
        depth = prefetch or int(tuned.get("prefetch", 2))
        settings = Settings(self.augment, batch_size, dtype, self.device, threads, depth, on_bad)
        self._executor = choose(executor, self._beton, settings, tuned)
        self.epoch, self.seen = 0, 0
        self.num_bad = 0
        self._error: SampleError | None = (
            None  # ends the loader; its position stays before the batch that has the sample
        )
        self._ahead: deque[tuple[int, int, np.ndarray, BatchRequest]] = deque()
        self._cursor = (0, 0)  # position of the next job to submit
        self._ordered, self._ordering = (
            -1,
            Thread(),
        )  # the last epoch whose order was asked for, and who works on it
        self._plan_seconds = self._wait_seconds = 0.0
        self._num_images = 0

    @property
    def num_samples(self) -> int:
        return len(self._beton)

    @property
    def executor_name(self) -> str:
        return self._executor.name

    def __len__(self) -> int:
        """Batches of an epoch on this process."""
        return self.order.num_batches

    def __iter__(self) -> Iterator[Batch]:
        epoch = self.epoch
        if not len(self):
            self.epoch += 1
        while self.epoch == epoch and len(self):
            batch = self._next()
            # Moved before the batch is handed out: a state saved after training on it counts it as
            # seen.
            self.epoch, self.seen = self.order.after(epoch, self.seen)
            yield batch

    def _submit_ahead(self) -> None:
        """Keep `depth` jobs under way; in training also those of the next epoch, so that it begins
        without a pause."""
        while len(self._ahead) < self._executor.depth:
            epoch, seen = self._cursor
            if epoch > self.epoch and not self.training:
                return
            began = time.perf_counter()
            indices = self.order.batch(epoch, seen)
            valid = np.where(indices < 0, 0, indices)
            plan = draw(
                self.augment,
                valid,
                self._beton.heights[valid],
                self._beton.widths[valid],
                self.seed,
                epoch,
            )
            job = BatchRequest(valid, plan)
            self._plan_seconds += time.perf_counter() - began
            self._executor.submit(job)
            self._ahead.append((epoch, seen, indices, job))
            self._cursor = self.order.after(epoch, seen)
            if self.training and epoch >= self._ordered:
                self._order_epoch(epoch + 1)

    def _order_epoch(self, epoch: int) -> None:
        """Shuffle an epoch in the background (a million samples take 0.1 s), so that it begins
        without a pause."""
        self._ordered = epoch
        self._ordering = Thread(target=self.order.samples, args=(epoch,), name="slipform-order")
        self._ordering.start()

    def _next(self) -> Batch:
        if self._error is not None:
            raise self._error
        try:
            self._submit_ahead()
            began = time.perf_counter()
            epoch, seen, indices, job = self._ahead.popleft()
            rendered = self._executor.collect()
        except SampleError as error:
            self._error = error
            raise
        self._wait_seconds += time.perf_counter() - began
        self._num_images += len(indices)
        labels = np.where(indices < 0, IGNORED_LABEL, self._beton.labels[job.indices])
        if bad := [
            i for i in rendered.bad if indices[i] >= 0
        ]:  # padding stands on sample 0, good or bad
            labels[bad] = IGNORED_LABEL
            self.num_bad += len(bad)
        batch = Batch(rendered.images, upload(labels, self.device), torch.from_numpy(indices))
        plan = draw_mix(
            self.augment,
            len(batch),
            self.seed,
            epoch,
            seen // self.order.batch_size + self.order.rank,
        )
        return mix(batch, plan) if plan else batch

    def state_dict(self) -> dict[str, Any]:
        """The position and what it means something for: plain ints and strings."""
        return {
            "epoch": self.epoch,
            "seen": self.seen,
            "seed": self.seed,
            "num_samples": self.num_samples,
            "split": self.split,
            "block": self.block,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a saved position, whatever executor, batch size or number of processes saved it.

        Where the new global batch does not divide what was seen, the epoch goes on at that very
        sample all the same. Raises ConfigError where the state belongs to another dataset or order
        of its samples.
        """
        for key in ("num_samples", "seed", "split", "block"):
            if state.get(key, 0) != getattr(
                self, key
            ):  # positions saved before there was `block` have none
                raise ConfigError(
                    f"the saved position belongs to {key} = {state.get(key, 0)}, this loader has"
                    f" {getattr(self, key)}: resume with the same one, or start a new run"
                )
        self._drain()
        self.epoch, self.seen = self.order.next_position(int(state["epoch"]), int(state["seen"]))
        self._cursor = (self.epoch, self.seen)

    def stats(self) -> dict[str, float]:
        """Since the start: seconds of planning, of the consumer's waiting and of the executor's
        stages; images; bad samples."""
        return {
            "plan_seconds": self._plan_seconds,
            "wait_seconds": self._wait_seconds,
            "num_images": float(self._num_images),
            "num_bad": float(self.num_bad),
            **self._executor.stats(),
        }

    def _drain(self) -> None:
        while self._ahead:
            self._ahead.popleft()
            self._executor.collect()

    def close(self) -> None:
        """End the threads; may be called twice."""
        if self._ordering.ident is not None:
            self._ordering.join()
        self._executor.close()
        self._ahead.clear()

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
