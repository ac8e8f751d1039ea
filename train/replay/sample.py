"""The step that saw a sample.

In: the segments of a run, an epoch, the index or the name of a sample. Out: the place of the step.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

import numpy as np
import torch

from slipform.pipelines.errors import ConfigError
from slipform.pipelines.samples import Samples
from slipform.train.replay.batches import open_rank
from slipform.train.run.segments import Place, Segment

__all__ = ["find_sample"]


def find_sample(segments: list[Segment], epoch: int, sample: str) -> tuple[Place, int]:
    """Find the first step of an epoch that saw a sample.

    The epoch may extend over several segments, whose datasets may number the samples differently.

    Args:
        segments: The segments of a run.
        epoch: The epoch, from 0.
        sample: The index of the sample in the training split, or its name.

    Returns:
        The place of the step, and the index of the sample there.

    Raises:
        ConfigError: No step saw it: there is no such epoch or sample, or it was in the rest of the
            epoch that makes no whole batch.
    """
    epochs, last = segments[-1].config.train.epochs, segments[-1].end
    if not 0 <= epoch < epochs:
        raise ConfigError(f"epoch {epoch + 1}: the run has {epochs} epochs, give 1 to {epochs}")
    refused: list[ConfigError] = []
    for segment in segments:
        # Before the order of the epoch is computed: a run has no epoch 10 ** 30.
        if not segment.batches_left(epoch) or segment.steps_before(epoch) >= segment.end:
            continue
        with open_rank(segment, torch.device("cpu"), 0, "host") as loader:
            try:
                index = _index(loader.samples, sample)
            except ConfigError as error:
                refused.append(error)
                continue
            order = loader.sequence.order.samples(epoch)
        seen = segment.start.seen if epoch == segment.start.epoch else 0
        for at in np.flatnonzero(order == index):
            batch = (int(at) - seen) // segment.global_batch_size
            if at >= seen and batch < segment.batches_left(epoch):
                place = segment.place(epoch, batch // segment.config.train.accumulate)
                if place.step <= segment.end:
                    return place, index
    if refused:
        raise refused[-1]
    raise ConfigError(
        f"no step of epoch {epoch + 1} saw sample {sample}: an epoch leaves out the samples that"
        f" make no whole batch, and the last step that the run has recorded is {last}. Give another"
        " epoch or sample"
    )


def _index(samples: Samples, sample: str) -> int:
    """The index of a sample that is given by its index or its name."""
    if sample.isdecimal():
        if len(sample) > 18 or int(sample) >= len(samples.beton):
            raise ConfigError(f"sample {sample}: give 0 to {len(samples.beton) - 1}")
        return int(sample)
    names = samples.names() or []
    found = [i for i, name in enumerate(names) if sample in (name, Path(name).name)]
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(names[i] for i in found[:5])
        raise ConfigError(f"{len(found)} samples are called {sample}: {listed}. Give the index.")
    near = get_close_matches(sample, names, 3)
    most = len(samples.beton) - 1
    hint = f"Did you mean {', '.join(near)}?" if near else f"Give its index, 0 to {most}."
    raise ConfigError(f"no training sample is called {sample}. {hint}")
