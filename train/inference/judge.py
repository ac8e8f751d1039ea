"""Judging a trained model: its answers on a split, figures about them, and pictures.

In: a Classifier, a dataset. Out: a Judgment; pictures of the images with the highest losses.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from slipform.pipelines.batch import counted
from slipform.pipelines.errors import SlipformError
from slipform.pipelines.folds import Fold
from slipform.pipelines.machine import free_memory_bytes
from slipform.pipelines.manifest import read_manifest
from slipform.pipelines.samples import open_samples
from slipform.train.figures.pictures import Picture, to_uint8
from slipform.train.inference.classifier import Classifier
from slipform.train.inference.data import dataset_of, labeled
from slipform.train.inference.maps import class_maps
from slipform.train.inference.predict import read_batches
from slipform.train.scores.answers import Answers
from slipform.train.scores.bootstrap import memory_bytes
from slipform.train.scores.judgment import Judgment
from slipform.train.scores.judgment import judge as judge_answers
from slipform.train.step.data import has_images
from slipform.train.step.step import predict_logits

__all__ = ["answers_of", "judge", "judge_model", "pictures_of"]

_COPIES = 5  # of the logits that judging makes


def judge(
    run: Path | str,
    data: Path | str | None = None,
    split: str = "test",
    device: str = "auto",
    seed: int = 0,
) -> Judgment:
    """Judge the best epoch of a run on a split: figures with intervals, classes, calibration.

    Args:
        run: The run folder.
        data: A folder that prep wrote. Default: the dataset of the run.
        split: "train", "val" or "test". The temperature is fitted on val of the same dataset.
        device: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:N".
        seed: The seed of the intervals.

    Returns:
        The Judgment: `figures` by name, `scores` and `auroc` of each class, `pairs` that are
        confused, `calibration`, the `answers` for each image.

    Raises:
        SlipformError: See `Classifier.load` and `Classifier.evaluate`; or the logits do not fit
            into memory.

    Example:
        ```python
        import slipform as sf

        judged = sf.judge("runs/first")
        print(judged.figures["auroc"])
        for pair in judged.pairs[:3]:
            print(judged.classes[pair.actual], judged.classes[pair.predicted], pair.images)
        ```
    """
    return judge_model(Classifier.load(run, device), data, split, seed)


def judge_model(
    classifier: Classifier, data: Path | str | None = None, split: str = "test", seed: int = 0
) -> Judgment:
    """Judge a model on a split: figures with intervals, classes, pairs, calibration.

    Args:
        classifier: The model.
        data: A folder that prep wrote. Default: the dataset of the run.
        split: "train", "val" or "test". The temperature is fitted on val of the same dataset.
        seed: The seed of the intervals.

    Raises:
        SlipformError: See `Classifier.evaluate`; or the logits do not fit into memory.
    """
    answers = answers_of(classifier, data, split)
    config = classifier.config if data is None else classifier.config.replace("data.fold", "")
    manifest = read_manifest(dataset_of(config, data))
    val = answers if split == "val" else None
    if split != "val" and has_images(config, manifest, "val"):
        val = answers_of(classifier, data, "val")
    return judge_answers(split, classifier.classes, answers, val, seed)


@torch.inference_mode()
def answers_of(
    classifier: Classifier, data: Path | str | None = None, split: str = "test"
) -> Answers:
    """The logits of all images of a split. Images that cannot be read are left out.

    Args:
        classifier: The model.
        data: A folder that prep wrote. Default: the dataset of the run.
        split: "train", "val" or "test".

    Raises:
        SlipformError: See `Classifier.evaluate`; or the logits do not fit into memory.
    """
    if classifier.thresholds is not None:
        raise SlipformError(
            f"{classifier.folder} has several labels for each image, and `judge` is for one: use"
            " sf.evaluate, or the command validate"
        )
    with classifier.open_split(data, split) as loader:
        shape = (loader.num_samples, len(classifier.classes))
        needed = _COPIES * 4 * shape[0] * shape[1] + memory_bytes(*shape)
        if needed > (free := free_memory_bytes()):
            raise SlipformError(
                f"judging {loader.num_samples:,} images of {len(classifier.classes):,} classes"
                f" needs {needed / 2**30:.1f} GB of memory, {free / 2**30:.1f} GB are free: give a"
                " smaller --split"
            )
        logits: list[Tensor] = []
        labels: list[Tensor] = []
        indices: list[Tensor] = []
        for batch in labeled(loader, classifier.classes):
            there = counted(batch.labels)
            found = predict_logits(classifier.functions, batch.images)
            logits.append(found[there].float().cpu())
            own = batch.labels if batch.labels.ndim == 1 else batch.labels.argmax(1)
            labels.append(own[there].cpu())
            indices.append(batch.indices[there.cpu()].clone())
    if not logits:
        shape = (0, len(classifier.classes))
        return Answers(np.zeros(shape, np.float32), np.zeros(0, np.int64), np.zeros(0, np.int64))
    parts = [torch.cat(parts).numpy() for parts in (logits, labels, indices)]
    order = np.argsort(parts[2], kind="stable")
    return Answers(parts[0][order], parts[1][order], parts[2][order])


def pictures_of(
    classifier: Classifier,
    answers: Answers,
    split: str,
    positions: Sequence[int],
    data: Path | str | None = None,
    *,
    maps: bool = False,
) -> list[Picture]:
    """Pictures of images, as the net sees them.

    Args:
        classifier: The model.
        answers: What it says of the images of a split.
        split: The name of the split.
        positions: Positions of the images in `answers`.
        data: The dataset folder. Default: the dataset of the run.
        maps: Whether the pictures have class activation maps.

    Raises:
        SlipformError: There is no such dataset; or there can be no maps, see `class_maps`.
    """
    if not positions:
        return []
    folder, classes = dataset_of(classifier.config, data), classifier.classes
    settings = classifier.config.data
    fold = Fold.parse(settings.fold, settings.fold_seed) if data is None else None
    samples = open_samples(folder, read_manifest(folder), split, fold)
    indices = [int(answers.indices[position]) for position in positions]
    images, names = [samples.image(index) for index in indices], samples.names()
    device, options = classifier.device, samples.manifest.options
    parts = [
        part.tensor.clone()
        for part in read_batches(images, classifier.spec, torch.float32, device, options)
        if part.tensor is not None
    ]
    tensor, own = torch.cat(parts), list(positions)
    both = None
    if maps:
        predicted, actual = (list(map(int, x[own])) for x in (answers.predicted, answers.labels))
        both = [class_maps(classifier.model, tensor, c).numpy() for c in (predicted, actual)]
    shares = torch.from_numpy(answers.logits[own]).softmax(1).numpy()
    assert not isinstance(classifier.spec.normalize, str)
    shown = to_uint8(tensor, classifier.spec.normalize)
    found = []
    for row, position in enumerate(own):
        label, guess = int(answers.labels[position]), int(answers.predicted[position])
        found.append(
            Picture(
                image=shown[row],
                name=names[indices[row]] if names else f"{split} {indices[row]}",
                actual=classes[label],
                predicted=classes[guess],
                probability=float(shares[row, guess]),
                actual_probability=float(shares[row, label]),
                loss=float(answers.losses[position]),
                maps=None if both is None else (both[0][row], both[1][row]),
            )
        )
    return found
