"""The answers of a trained model: its logits for every image of a split, with the labels.

In: a Classifier, a dataset. Out: `Answers`, or `LabelAnswers` if images have several labels.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from slipform.pipelines.batch import counted
from slipform.pipelines.errors import SlipformError
from slipform.pipelines.machine import free_memory_bytes
from slipform.train.inference.classifier import Classifier
from slipform.train.inference.data import labeled
from slipform.train.scores.answers import Answers
from slipform.train.scores.bootstrap import memory_bytes
from slipform.train.scores.label_answers import LabelAnswers
from slipform.train.scores.label_bootstrap import label_memory_bytes
from slipform.train.step.step import predict_logits

__all__ = ["answers_of", "label_answers_of"]

_COPIES = 5  # of the logits that judging makes


def answers_of(
    classifier: Classifier, data: Path | str | None = None, split: str = "test"
) -> Answers:
    """The logits of all images of a split. Images that cannot be read are left out.

    Args:
        classifier: The model; its images have one label, or shares of classes.
        data: A folder that prep wrote. Default: the dataset of the run.
        split: "train", "val" or "test".

    Raises:
        SlipformError: See `Classifier.evaluate`; or the logits do not fit into memory.
    """

    if classifier.thresholds is not None:
        raise SlipformError(
            f"{classifier.folder} has several labels for each image: use label_answers_of"
        )

    def own(labels: Tensor) -> Tensor:
        return labels if labels.ndim == 1 else labels.argmax(1)

    return Answers(*_collected(classifier, data, split, own, memory_bytes))


def label_answers_of(
    classifier: Classifier, data: Path | str | None = None, split: str = "test"
) -> LabelAnswers:
    """The logits of all images of a split that have several labels; see `answers_of`.

    Args:
        classifier: The model.
        data: A folder that prep wrote. Default: the dataset of the run.
        split: "train", "val" or "test".

    Raises:
        SlipformError: See `Classifier.evaluate`; or the logits do not fit into memory.
    """

    def own(labels: Tensor) -> Tensor:
        return labels > 0

    return LabelAnswers(*_collected(classifier, data, split, own, label_memory_bytes))


@torch.inference_mode()
def _collected(
    classifier: Classifier,
    data: Path | str | None,
    split: str,
    own: Callable[[Tensor], Tensor],
    memory: Callable[[int, int], int],
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """The logits, labels and positions of all images of a split, in the order of the dataset.

    Args:
        own: Makes the labels of a batch to those of the result.
        memory: What the judgment needs beside the logits, from the numbers of images and classes.
    """
    with classifier.open_split(data, split) as loader:
        shape = (loader.num_samples, len(classifier.classes))
        needed = _COPIES * 4 * shape[0] * shape[1] + memory(*shape)
        if needed > (free := free_memory_bytes()):
            raise SlipformError(
                f"judging {loader.num_samples:,} images of {len(classifier.classes):,} classes"
                f" needs {needed / 2**30:.1f} GB of memory, {free / 2**30:.1f} GB are free: give a"
                " smaller --split, or use a machine with more memory"
            )
        logits: list[Tensor] = [torch.empty(0, len(classifier.classes))]
        labels: list[Tensor] = [own(torch.empty(0, len(classifier.classes)))]
        indices: list[Tensor] = [torch.empty(0, dtype=torch.int64)]
        for batch in labeled(loader, classifier.classes):
            there = counted(batch.labels)
            found = predict_logits(classifier.functions, batch.images)
            logits.append(found[there].float().cpu())
            labels.append(own(batch.labels)[there].cpu())
            indices.append(batch.indices[there.cpu()].clone())
    parts = [torch.cat(parts).numpy() for parts in (logits, labels, indices)]
    order = np.argsort(parts[2], kind="stable")
    return parts[0][order], parts[1][order], parts[2][order]
