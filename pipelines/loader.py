"""The loader: a dataset folder -> batches on the device, epoch after epoch, from any position.

In: a folder that `prep` wrote, an Augmentation, a seed. Out: `Batch`es. The content of batch k of
epoch e is a pure function of (seed, e, k). This file checks the arguments and builds the parts.
`slipform.pipelines.sequence` holds the position and runs the loops.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import torch

from slipform.pipelines.batch import Batch
from slipform.pipelines.errors import ConfigError, SlipformError
from slipform.pipelines.executors import choose, chosen, tuned
from slipform.pipelines.folds import Fold
from slipform.pipelines.limits import check_choices, check_numbers
from slipform.pipelines.machine import num_threads
from slipform.pipelines.manifest import Manifest, read_manifest
from slipform.pipelines.mirror.folder import local_folder
from slipform.pipelines.order import EpochOrder
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.position import HasPosition, restore
from slipform.pipelines.prefetch import Prefetcher
from slipform.pipelines.rendering.request import Settings, requests_ahead
from slipform.pipelines.samples import open_samples
from slipform.pipelines.sampling import Sampling
from slipform.pipelines.sequence import BatchSequence
from slipform.pipelines.upload import checked_device

__all__ = ["Loader"]


class Loader(HasPosition):
    """Batches of one split of a dataset.

    A training loader keeps its position. A loop over it gives the rest of the present epoch. The
    next loop gives the next epoch, whose first batches are made in advance. After `break`, a new
    loop gives the remaining batches. `set_epoch` goes to the beginning of an epoch.
    An evaluation loader (`training=False`) begins at the beginning in every loop.

    Only one loop over a loader runs at a time: a new one ends the previous one. After an exception
    in a loop, also Ctrl-C, the loader continues with the first batch that it has not handed out.
    A loader belongs to the process that built it. It cannot be pickled or used after a fork.

    Args:
        folder: A dataset folder that `prep` wrote, or its URL in an object store, such as
            "s3://bucket/data".
        split: "train", "val" or "test".
        augment: The augmentation. None: `Augmentation()`. If it does not give mean and standard
            deviation, those of the dataset are used.
        batch_size: Images per batch and process; see split_batches.
        training: True: the order is shuffled, and the last partial batch of an epoch is dropped.
            False: `augment.evaluation()` and the stored order are used, and the last batch is
            padded (label -100, index -1).
        seed: Seed of the order and of all random augmentation, 0 or more.
        executor: What makes the pixels: "dali", "host", "resident", "stream" (on a GPU) or "auto".
        device, dtype: Device of the batches, type of the images (torch.float32, bfloat16, float16).
        rank, world_size: Number of this process, from 0, and of processes; each takes its part.
        threads: Threads that decode and render. 0: what `bench tune` found here, else one per core;
            on a GPU two cores are left for the threads that launch work.
        prefetch: Batches made ahead. 0: up to 16 small ones on a CPU; else as tuned, or 2.
        on_bad: "error": a bad sample raises SampleError. "skip": black, label -100, in `num_bad`.
        block: 0: all samples are shuffled together. For data larger than memory: number of
            consecutive samples that stay near each other in the order (see `EpochOrder`).
        reuse_buffers: False: no batch overwrites another one. True: `images` of a batch are
            overwritten after the next batch was asked for, which is faster.
        decode_scale: "auto": `host` decodes JPEGs of 512 x 512 pixels or more at 1/2, 1/4 or 1/8 of
            their size if the crop then is still 1.25 times larger than the output. The pixels
            differ from those of a full decode by about 1 of 255. "off": never.
        decoder_share: On a GPU, the share of the JPEGs, 0 to 1, for its decoder. CUDA ("dali") or
            CPU cores ("stream") decode the others. "auto": what `bench tune` found, else 1 or 0.5.
        sampling: "all": an epoch has each image once. Otherwise it has as many, drawn at random:
            "balanced", a table of class -> weight, or an array of weights; see `make_draws`.
        fold: "2/5": "val" is the second of five parts of train and val together, and "train" the
            rest. A `Fold` has the seed of the division, too. "": the splits of prep.
        split_batches: True: batch_size is that of all processes together; parts differ by 1 image.
        as_tuned: True: use what `bench tune` found here for the given executor, as "auto" does.

    Attributes:
        dataset, manifest: Name of the dataset, and the Manifest of its folder.
        split, training, seed, device: As given.
        augment: The augmentation with mean and standard deviation.
        batch_size, global_batch_size: Images per batch of this process, and of all together.
        samples, sequence: The samples, and the position and their order, for other modules.

    Raises:
        DatasetError: The folder is not a dataset, is damaged, or has no such split.
        StorageError: The object store cannot be read. Also of a loop over the loader.
        ConfigError: An argument is not allowed, or does not fit the dataset.

    Example:
        ```python
        import slipform as sf

        augment = sf.Augmentation(image_size=64, crop="random_resized", flip="horizontal")
        with sf.Loader("data/shapes", "train", augment, batch_size=32) as loader:
            for epoch in range(2):
                for images, labels in loader:
                    assert images.shape == (32, 3, 64, 64)
        ```
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
        reuse_buffers: bool = False,
        decode_scale: str = "auto",
        decoder_share: float | str = "auto",
        sampling: Sampling = "all",
        fold: Fold | str = "",
        split_batches: bool = False,
        as_tuned: bool = False,
    ) -> None:
        check_choices(augment, decode_scale, on_bad, decoder_share, split, executor, training)
        check_numbers(seed, threads, prefetch, block, batch_size, rank, world_size)
        folder = local_folder(folder)
        self.manifest: Manifest = read_manifest(folder)
        self.split, self.training, self.seed = split, training, seed
        self.device, self.dataset = checked_device(device, dtype), self.manifest.dataset
        self._fold = Fold.parse(fold)
        self.samples = open_samples(folder, self.manifest, split, self._fold)
        self._beton = self.samples.beton
        spec = augment or Augmentation()
        self.augment = (spec if training else spec.evaluation()).resolved(
            self.manifest.mean, self.manifest.std
        )
        draws = self.samples.draws(sampling)
        if draws is not None and self.augment.flip == "alternating":
            raise ConfigError(
                'flip = "alternating" mirrors each image in every second epoch, and sampling draws'
                ' an image several times, or never: give flip = "horizontal", or sampling = "all"'
            )
        self._order = EpochOrder(
            len(self._beton),
            batch_size,
            seed,
            shuffle=training,
            drop_last=training,
            rank=rank,
            world_size=world_size,
            block=block if training else 0,
            draws=draws,
            split_batches=split_batches,
        )
        self.batch_size, self.global_batch_size = self._order.size, self._order.global_batch_size
        found = tuned(self._beton, self.augment.image_size, str(self.device))
        if executor == "auto":
            executor = chosen(self._beton, self.augment, str(self.device), found)
        elif not (as_tuned and found.get("executor") == executor):
            found = {}
        threads = threads or int(found.get("threads", 0)) or num_threads(self.device.type)
        depth, count = prefetch or int(found.get("prefetch", 0)) or 2, 1
        if not prefetch and self.device.type == "cpu" and self._beton.stays and executor != "dali":
            depth, count = requests_ahead(depth, self.batch_size, spec.image_size, len(self))
        share = None if decoder_share == "auto" else float(decoder_share)
        settings = Settings(
            self.augment, self.batch_size * count, dtype, self.device, threads, depth,
            on_bad, reuse_buffers, decode_scale, world_size, share, count,
        )  # fmt: skip
        self._executor = choose(executor, self._beton, settings, found)
        parts = self.samples, self.augment, self._order, self.device
        self.sequence = BatchSequence(Prefetcher(self._executor, *parts, count), *parts)

    @property
    def num_samples(self) -> int:
        """The number of samples of the split."""
        return len(self._beton)

    @property
    def num_classes(self) -> int:
        """The number of classes of the dataset."""
        return self.manifest.num_classes

    @property
    def class_counts(self) -> list[int]:
        """The number of images of each class; an image with several labels counts for each."""
        return self.samples.class_counts

    @property
    def executor_name(self) -> str:
        """What makes the pixels: "dali", "host", "resident" or "stream"."""
        return self._executor.name

    @property
    def resident_bytes(self) -> int:
        """Bytes of decoded pixels that stay in memory. CPU processes of a run share them."""
        return int(getattr(self._executor, "resident_bytes", 0))

    @property
    def decoder_share(self) -> float | None:
        """The share of the JPEGs for the decoder of the GPU. None: it decodes none here."""
        return getattr(self._executor, "decoder_share", None)

    @property
    def epoch_images(self) -> int:
        """Images of one epoch over all processes, without padding and dropped samples."""
        whole = len(self) * self.global_batch_size
        return whole if self.training else self.num_samples

    def __len__(self) -> int:
        """Batches of an epoch on this process."""
        return self._order.num_batches

    def __repr__(self) -> str:
        return (
            f'Loader("{self.dataset}", "{self.split}": {self.num_samples} samples,'
            f" {self.num_classes} classes, {len(self)} batches of {self.batch_size};"
            f" executor={self.executor_name}, device={self.device}, epoch={self.epoch},"
            f" seen={self.seen})"
        )

    def __iter__(self) -> Iterator[Batch]:
        """Begin a loop: over the rest of the epoch for training, else over the whole split."""
        return self.sequence.loop(restart=not self.training)

    def state_dict(self) -> dict[str, Any]:
        """The position, and the settings for which it is valid.

        Returns:
            epoch, seen, seed, num_samples, split, block, sampling and fold, as plain ints and
            strings.
        """
        return {
            "epoch": self.epoch,
            "seen": self.seen,
            "seed": self.seed,
            "num_samples": self.num_samples,
            "split": self.split,
            "block": self._order.block,
            "sampling": self._order.draws.name if self._order.draws else "all",
            "fold": self._fold.name(self.manifest.labels) if self._fold else "",
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a saved position. This ends the running loop.

        The saved loader may have had another executor, batch size or number of processes. The epoch
        continues at the first sample that was not seen, also if the number of seen samples is not a
        multiple of the new global batch size.

        Args:
            state: What `state_dict` returned.

        Raises:
            ConfigError: The state belongs to another dataset or another order of its samples, or
                this is an evaluation loader, which always begins at the beginning.
        """
        restore(self.sequence, state, self.state_dict())

    def stats(self) -> dict[str, float]:
        """Times and counts since the start.

        Returns:
            plan_seconds, wait_seconds (the consumer waits for the executor), num_images, num_bad,
            and the seconds of each stage of the executor. From an object store, also fetched_bytes
            and fetch_seconds (a batch waits for its samples).
        """
        return {
            "plan_seconds": self.sequence.ahead.plan_seconds,
            "wait_seconds": self.sequence.ahead.wait_seconds,
            "num_images": float(self.sequence.done.num_images),
            "num_bad": float(self.num_bad),
            **self.sequence.ahead.fetch_stats(),
            **self._executor.stats(),
        }

    def close(self) -> None:
        """End the threads. A second call does nothing."""
        self.sequence.close()

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise SlipformError(
            "a Loader cannot be pickled or copied: it has threads and mapped files. Build one in"
            " each process, with rank and world_size, and hand over state_dict() for the position."
        )
