"""Pictures of images as the net sees them, with what the model says of them.

In: a Classifier, its answers on a split, positions. Out: pictures for figures and for a page.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from slipform.pipelines.manifest import read_manifest
from slipform.pipelines.samples import open_samples
from slipform.train.figures.label_pictures import LabelPicture
from slipform.train.figures.pictures import Picture, to_uint8
from slipform.train.inference.classifier import Classifier
from slipform.train.inference.maps import class_maps
from slipform.train.inference.predict import read_batches
from slipform.train.scores.answers import Answers
from slipform.train.scores.label_judgment import LabelJudgment

__all__ = ["label_pictures_of", "pictures_of"]


class _Rendered(NamedTuple):
    """Images as the net sees them."""

    tensor: Tensor  # normalized, float32 [N, 3, S, S], on the device of the model
    shown: npt.NDArray[np.uint8]  # [N, S, S, 3]
    names: Sequence[str]


def _rendered(
    classifier: Classifier, split: str, indices: Sequence[int], data: Path | str | None
) -> _Rendered:
    """Render images of a split."""
    settings = classifier.settings_for(data).data
    folder = Path(settings.folder)
    samples = open_samples(folder, read_manifest(folder), split, settings.chosen_fold)
    images, names = [samples.image(index) for index in indices], samples.names()
    device, options = classifier.device, samples.manifest.options
    parts = [
        part.tensor.clone()
        for part in read_batches(images, classifier.spec, torch.float32, device, options)
        if part.tensor is not None
    ]
    tensor = torch.cat(parts)
    assert not isinstance(classifier.spec.normalize, str)
    shown = to_uint8(tensor, classifier.spec.normalize)
    return _Rendered(tensor, shown, [names[i] if names else f"{split} {i}" for i in indices])


def pictures_of(
    classifier: Classifier,
    answers: Answers,
    split: str,
    positions: Sequence[int],
    data: Path | str | None = None,
    *,
    maps: bool = False,
) -> list[Picture]:
    """Pictures of images with one label.

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
    own, classes = list(positions), classifier.classes
    found = _rendered(classifier, split, [int(i) for i in answers.indices[own]], data)
    both: Any = None
    if maps:
        predicted, actual = (list(map(int, x[own])) for x in (answers.predicted, answers.labels))
        both = [class_maps(classifier.model, found.tensor, c).numpy() for c in (predicted, actual)]
    shares = torch.from_numpy(answers.logits[own]).softmax(1).numpy()
    pictures = []
    for row, position in enumerate(own):
        label, guess = int(answers.labels[position]), int(answers.predicted[position])
        pictures.append(
            Picture(
                image=found.shown[row],
                name=found.names[row],
                actual=classes[label],
                predicted=classes[guess],
                probability=float(shares[row, guess]),
                actual_probability=float(shares[row, label]),
                loss=float(answers.losses[position]),
                maps=None if both is None else (both[0][row], both[1][row]),
            )
        )
    return pictures


def label_pictures_of(
    classifier: Classifier,
    judged: LabelJudgment,
    positions: Sequence[int],
    data: Path | str | None = None,
    *,
    maps: bool = False,
) -> list[LabelPicture]:
    """Pictures of images with several labels.

    Args:
        classifier: The model.
        judged: What it says of the images of a split.
        positions: Positions of the images in `judged.answers`.
        data: The dataset folder. Default: the dataset of the run.
        maps: Whether the pictures have class activation maps, of the class with the highest loss.

    Raises:
        SlipformError: There is no such dataset; or there can be no maps, see `class_maps`.
    """
    if not positions:
        return []
    answers, own, classes = judged.answers, list(positions), classifier.classes
    found = _rendered(classifier, judged.split, [int(i) for i in answers.indices[own]], data)
    worst = [int(answers.class_losses(position).argmax()) for position in own]
    drawn = class_maps(classifier.model, found.tensor, worst).numpy() if maps else None
    pictures = []
    for row, position in enumerate(own):
        shares, positive = answers.probabilities[position], answers.positive[position]
        wrong = ~positive & (shares >= judged.thresholds)
        order = np.argsort(shares, kind="stable")
        pictures.append(
            LabelPicture(
                image=found.shown[row],
                name=found.names[row],
                labels=[(classes[c], float(shares[c])) for c in order if positive[c]],
                wrong=[(classes[c], float(shares[c])) for c in order[::-1] if wrong[c]],
                worst=classes[worst[row]],
                worst_probability=float(shares[worst[row]]),
                is_label=bool(positive[worst[row]]),
                loss=float(answers.losses[position]),
                map=None if drawn is None else drawn[row],
            )
        )
    return pictures
