"""The batches of a step, made again by the loader of the run.

In: a place. Out: the batches of all processes, bit for bit as the step saw them if executor and
type of device are those of the run, and each launch was one step.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from slipform.pipelines.batch import Batch, Mix
from slipform.pipelines.errors import DatasetError
from slipform.pipelines.loader import Loader
from slipform.pipelines.remote.client import is_remote
from slipform.train.machine.distributed import Process
from slipform.train.run.identity import images_of
from slipform.train.run.segments import Place, Segment
from slipform.train.step.data import open_loader

__all__ = ["StepBatches", "open_rank", "replayed", "tensors"]


@dataclass(frozen=True)
class StepBatches:
    """What a step saw.

    Attributes:
        place: The place of the step.
        executor: The executor that made the images now.
        exact: Whether it is the run's executor on the run's type of device, and the run did not
            make several steps in one launch, where other kernels render.
        batches: The batches of each process: batches[rank][k], k < place.count. Each has memory of
            its own.
    """

    place: Place
    executor: str
    exact: bool
    batches: list[list[Batch]]

    def parts(self) -> list[tuple[int, Batch]]:
        """(rank, batch) of all batches, in the order of the epoch: the first one of each process,
        then the second ones."""
        return [
            (rank, batches[k])
            for k in range(self.place.count)
            for rank, batches in enumerate(self.batches)
        ]

    def together(self) -> Batch:
        """One batch of all samples, in the order of `parts`."""
        parts = [batch for _, batch in self.parts()]
        mixes = [batch.mix for batch in parts if batch.mix is not None]
        return Batch(
            torch.cat([batch.images for batch in parts]),
            torch.cat([batch.labels for batch in parts]),
            torch.cat([batch.indices for batch in parts]),
            Mix(torch.cat([m.labels for m in mixes]), torch.cat([m.weight for m in mixes]))
            if mixes
            else None,
        )


def open_rank(
    segment: Segment, device: torch.device, rank: int, executor: str = "", epoch: int = 0
) -> Loader:
    """Open the loader that one process of a run had. The caller closes it.

    A CPU has no float16: images of such a run are float32 there.

    Args:
        segment: The segment of the run.
        device: The device of the batches.
        rank: The number of the process.
        executor: The executor. Default: that of the run on the same type of device, else "auto".
        epoch: The epoch, from 0, that gives the size of the images.

    Raises:
        DatasetError: The dataset is missing, or has other images than the run's.
    """
    start, folder = segment.start, segment.config.data.folder
    if not is_remote(folder) and not Path(folder).is_dir():
        raise DatasetError(
            f"{folder} is not a folder, and had the images of the run: give the folder with the"
            " run's dataset by --data"
        )
    if not executor:
        executor = start.executor if start.device == device.type else "auto"
    process = Process(device, rank, start.world_size)
    no_half = segment.config.train.precision == "fp16" and device.type == "cpu"
    loader = open_loader(
        segment.config, "train", process, training=True, executor=executor, epoch=epoch + 1,
        dtype=torch.float32 if no_half else None,
    )  # fmt: skip
    try:
        same = loader.num_samples == segment.num_samples
        if not same or start.images not in ("", images_of(loader)):
            raise DatasetError(
                f"{folder} has other training images than the run had. Give the folder with the"
                " run's dataset by --data."
            )
    except BaseException:
        loader.close()
        raise
    return loader


def replayed(place: Place, device: torch.device, executor: str = "") -> StepBatches:
    """Make the batches of a step again.

    Args:
        place: The place of the step.
        device: The device of the batches.
        executor: The executor; see `open_rank`.

    Raises:
        SlipformError: The dataset is missing or differs, or a sample cannot be read.
    """
    start, found, name = place.segment.start, [], ""
    for rank in range(start.world_size):
        with open_rank(place.segment, device, rank, executor, place.epoch) as loader:
            state = {**loader.state_dict(), "epoch": place.epoch, "seen": place.seen}
            loader.load_state_dict(state)
            batches = iter(loader)
            found.append([_copy(next(batches)) for _ in range(place.count)])
            name = loader.executor_name
    launches = device.type == "cuda" and place.segment.config.train.steps_per_launch > 1
    exact = (name, device.type) == (start.executor, start.device) and not launches
    return StepBatches(place, name, exact, found)


def _copy(batch: Batch) -> Batch:
    return Batch(batch.images.clone(), batch.labels, batch.indices, batch.mix)


def tensors(step: StepBatches) -> dict[str, Tensor]:
    """The tensors of a step by name, for a file.

    Args:
        step: The batches of the step.

    Returns:
        images [N, 3, S, S]; labels int64 [N] or float32 [N, C]; indices and rank int64 [N]; with
        MixUp or CutMix mix_labels like labels, and mix_weight float32 [N].
    """
    batch = step.together()
    ranks = [torch.full((len(batch),), rank) for rank, batch in step.parts()]
    named = {
        "images": batch.images,
        "labels": batch.labels,
        "indices": batch.indices,
        "rank": torch.cat(ranks),
    }
    if batch.mix is not None:
        named |= {"mix_labels": batch.mix.labels, "mix_weight": batch.mix.weight}
    return {name: tensor.cpu().contiguous() for name, tensor in named.items()}
