"""Suspicious training samples of a run: mislabeled, never learned or forgotten.

In: the folder of a run with records.samples. Out: rankings; a CSV file and sheets of images.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from slipform.pipelines.errors import ConfigError, SlipformError
from slipform.pipelines.files import write_whole
from slipform.train.figures.draw import save
from slipform.train.figures.pictures import Picture, suspects_figure
from slipform.train.inference.answers import answers_of
from slipform.train.inference.classifier import Classifier
from slipform.train.inference.pictures import pictures_of
from slipform.train.records.samples import History, read_history
from slipform.train.run.folder import locked_if_run
from slipform.train.run.identity import images_of
from slipform.train.scores.suspects import Suspects, find_suspects

__all__ = ["CSV", "KINDS", "Found", "draw_suspects", "suspects_of", "table", "write_csv"]

CSV = "suspects.csv"
# Name of a ranking -> what its samples are.
KINDS = {
    "mislabeled": "probably mislabeled",
    "never_learned": "never learned",
    "forgotten": "forgotten",
}
_PICTURES = 24  # on a sheet
_COLUMNS = (
    "index", "name", "label", "suggestion", "suggestion_probability", "mean_margin", "mean_loss",
    "margin_with_model", "loss_with_model", "epochs_seen", "epochs_right", "times_forgotten",
    *KINDS,
)  # fmt: skip


@dataclass(frozen=True)
class Found:
    """The suspects of a run, with names.

    Attributes:
        suspects: The rankings.
        history: The observations.
        labels: The label of each training sample, int64 [N].
        names: The name of each training sample; None: the dataset has no names.
        classes: The names of the classes.
    """

    suspects: Suspects
    history: History
    labels: npt.NDArray[np.int64]
    names: list[str] | None
    classes: list[str]

    def ranking(self, kind: str) -> npt.NDArray[np.int64]:
        """The samples of one kind, the most suspicious first.

        Args:
            kind: A key of KINDS.
        """
        found: npt.NDArray[np.int64] = getattr(self.suspects, kind)
        return found


def suspects_of(classifier: Classifier, data: Path | None = None) -> Found:
    """Find the suspicious samples of a run.

    Args:
        classifier: The model of its best epoch.
        data: The dataset folder, if it was moved. Default: that of the run.

    Raises:
        ConfigError: Images have several labels.
        SlipformError: The run has no observations, or those of other images.
    """
    run = classifier.folder
    if classifier.thresholds is not None:
        raise ConfigError(
            f"{run} has several labels for each image: suspects are found where images have one"
        )
    with classifier.open_split(data, "train") as loader:
        labels = loader.samples.labels(np.arange(loader.num_samples))
        names, images = loader.samples.names(), images_of(loader)
    history = read_history(run, len(labels), images)
    if not history.epochs and history.missing:
        raise SlipformError(
            f"{run} has no observations of these training images: {history.missing[0]}. Give the"
            " dataset of the run as DATA, or train again with --set records.samples=true"
        )
    if not history.epochs:
        raise SlipformError(
            f"{run} has no observations of training images. Train with --set records.samples=true"
        )
    single = labels if labels.ndim == 1 else labels.argmax(1)
    suspects = find_suspects(history.codes, answers_of(classifier, data, "train"))
    return Found(suspects, history, single.astype(np.int64), names, classifier.classes)


def table(found: Found) -> Iterator[dict[str, Any]]:
    """The suspects as rows: the mislabeled ones first, then by the mean margin.

    margin_with_model and loss_with_model, which rank the mislabeled ones, are the means of those of
    the epochs and of the model.

    Args:
        found: The result of `suspects_of`.

    Yields:
        Values by the name of the column. The columns of KINDS have the rank, from 1; "" where a
        sample is not of that kind.
    """
    ranks: dict[str, dict[int, int]] = {
        kind: {int(i): rank for rank, i in enumerate(found.ranking(kind), start=1)}
        for kind in KINDS
    }
    every = np.array(sorted(set().union(*ranks.values())), np.int64)
    last = len(every) + 1
    mislabeled = np.array([ranks["mislabeled"].get(int(i), last) for i in every])
    suspects, scores = found.suspects, found.suspects.scores
    for i in every[np.lexsort((scores.margins[every], mislabeled))].tolist():
        suggested = int(suspects.suggested[i])
        values = (
            i, found.names[i] if found.names else "", found.classes[found.labels[i]],
            found.classes[suggested] if suggested >= 0 else "",
            round(float(suspects.probability[i]), 4) if suggested >= 0 else "",
            round(float(scores.margins[i]), 3), round(float(scores.losses[i]), 3),
            round(float(suspects.margins[i]), 3), round(float(suspects.losses[i]), 3),
            int(scores.seen[i]), int(scores.right[i]), int(scores.forgotten[i]),
            *(ranks[kind].get(i, "") for kind in KINDS),
        )  # fmt: skip
        yield dict(zip(_COLUMNS, values, strict=True))


def write_csv(found: Found, out: Path) -> Path:
    """Write all suspects to suspects.csv.

    Args:
        found: The result of `suspects_of`.
        out: The folder; it is created if it does not exist.

    Returns:
        The path of the file.

    Raises:
        OSError: It cannot be written.
        SlipformError: Another process uses the run folder of the file.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table(found))
    out.mkdir(parents=True, exist_ok=True)
    with locked_if_run(out, CSV):
        write_whole(out / CSV, text.getvalue())
    return out / CSV


def draw_suspects(classifier: Classifier, found: Found, data: Path | None, out: Path) -> list[Path]:
    """Draw the first samples of each ranking.

    Args:
        classifier: The model.
        found: The result of `suspects_of`.
        data: As for `suspects_of`.
        out: The folder.

    Returns:
        The paths of the files: suspects-mislabeled.png and so on.

    Raises:
        OSError: A file cannot be written.
        SlipformError: Another process uses the run folder of the files.
    """
    written: list[Path] = []
    place = {int(index): k for k, index in enumerate(found.suspects.answers.indices)}
    with locked_if_run(out, "suspects-*.png"):
        for kind, words in KINDS.items():
            ranking = found.ranking(kind)
            first = [int(i) for i in ranking if int(i) in place][:_PICTURES]
            name = f"suspects-{kind.replace('_', '-')}.png"
            if not first:
                (out / name).unlink(missing_ok=True)  # that of an earlier call
                continue
            pictures = _pictures(classifier, found, [place[i] for i in first], data)
            title = f"{words}: {len(first)} of {len(ranking)} training images"
            figure = suspects_figure(title, pictures, [_note(found, i) for i in first])
            written.append(save(figure, out, name))
    return written


def _pictures(
    classifier: Classifier, found: Found, positions: list[int], data: Path | None
) -> list[Picture]:
    """Pictures whose prediction is the suggestion."""
    suspects = found.suspects
    pictures = pictures_of(classifier, suspects.answers, "train", positions, data)
    indices = [int(suspects.answers.indices[position]) for position in positions]
    return [
        replace(
            picture,
            predicted=found.classes[int(suspects.suggested[index])],
            probability=float(suspects.probability[index]),
        )
        for picture, index in zip(pictures, indices, strict=True)
    ]


def _note(found: Found, index: int) -> str:
    scores = found.suspects.scores
    return (
        f"margin {scores.margins[index]:.1f}, right in {scores.right[index]} of"
        f" {scores.seen[index]}, forgotten {scores.forgotten[index]}x"
    )
