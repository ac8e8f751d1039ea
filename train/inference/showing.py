"""What `validate` shows of a judgment: figures in a folder, and the page of a run.

In: a Classifier, a judgment, a path. Out: pictures of the highest losses; PNG files; an HTML file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from slipform.pipelines.errors import SlipformError
from slipform.pipelines.files import write_whole
from slipform.train.config.toml import to_toml
from slipform.train.figures import curves, result
from slipform.train.figures.calibration import reliability_figure
from slipform.train.figures.draw import save
from slipform.train.figures.pictures import Picture, losses_figure, maps_figure
from slipform.train.inference.classifier import Classifier
from slipform.train.inference.data import first_image
from slipform.train.inference.judge import pictures_of
from slipform.train.page.run_page import Replayed, run_page
from slipform.train.records import read_summary
from slipform.train.run.folder import locked_if_run
from slipform.train.scores.judgment import Judgment
from slipform.train.step.data import num_training_samples
from slipform.train.step.metrics import Evaluation

__all__ = ["Shown", "draw_figures", "pictures", "write_report"]

_LOSSES, _MAPS = 24, 8  # pictures


@dataclass(frozen=True)
class Shown:
    """The pictures of a judgment.

    Attributes:
        losses: The images with the highest losses.
        maps: Some of them with class activation maps.
        missing: Sentences about what could not be made.
    """

    losses: Sequence[Picture]
    maps: Sequence[Picture]
    missing: Sequence[str]


def pictures(classifier: Classifier, judged: Judgment, data: Path | None) -> Shown:
    """Make the pictures of the highest losses, some of them with class activation maps.

    Args:
        classifier: The model.
        judged: What it says.
        data: The dataset of the judgment; None: that of the run.
    """
    positions, missing = judged.top_losses, list[str]()
    losses = _or_none(
        lambda: pictures_of(classifier, judged.answers, judged.split, positions[:_LOSSES], data),
        missing,
    )
    maps = _or_none(
        lambda: pictures_of(
            classifier, judged.answers, judged.split, positions[:_MAPS], data, maps=True
        ),
        missing,
    )
    return Shown(losses, maps, list(dict.fromkeys(missing)))


def draw_figures(
    classifier: Classifier, judged: Judgment, data: Path | None, out: Path, shown: Shown
) -> None:
    """Draw all figures of a judgment as PNG files.

    Args:
        classifier: The model.
        judged: What it says.
        data: The dataset of the judgment; None: that of the run.
        out: The folder.
        shown: The pictures.

    Raises:
        SlipformError: Another process uses the run folder of the figures.
        OSError: A file cannot be written.
    """
    with classifier.open_split(data, judged.split) as loader:
        first = first_image(loader)
    with locked_if_run(out, "*.png"):
        curves.draw_run(classifier.folder, out)
        if first is not None:
            classes = list(judged.classes)
            result.draw_result(out, classifier.model, first, _evaluation(judged), classes)
        if len(judged.answers):
            save(reliability_figure(judged.calibration), out, "reliability.png")
        if shown.losses:
            save(losses_figure(shown.losses), out, "top_losses.png")
        if shown.maps:
            save(maps_figure(shown.maps), out, "class_maps.png")


def write_report(
    classifier: Classifier,
    judged: Judgment,
    data: Path | None,
    out: Path,
    shown: Shown,
    notes: Sequence[str] = (),
    batch: Replayed | None = None,
) -> None:
    """Write the page of a run.

    Args:
        classifier: The model.
        judged: What it says.
        data: The dataset of the judgment; None: that of the run.
        out: The HTML file.
        shown: The pictures.
        notes: Sentences about the data.
        batch: The batch of a step of the training.

    Raises:
        SlipformError: Another process uses the run folder of the file.
        OSError: The file cannot be written.
    """
    text = run_page(
        classifier.folder, judged, facts=_facts(classifier, judged, data),
        settings=to_toml(classifier.config), losses=shown.losses, maps=shown.maps,
        batch=batch, notes=[*notes, *shown.missing],
    )  # fmt: skip
    out.parent.mkdir(parents=True, exist_ok=True)
    with locked_if_run(out.parent, out.name):
        write_whole(out, text)


def _or_none(make: Callable[[], list[Picture]], missing: list[str]) -> list[Picture]:
    try:
        return make()
    except SlipformError as error:
        missing.append(error.message)
        return []


def _evaluation(judged: Judgment) -> Evaluation:
    figures = judged.figures
    top5 = figures["top5"].value if "top5" in figures else 1.0
    confusion = torch.from_numpy(judged.answers.confusion)
    return Evaluation(figures["loss"].value, figures["top1"].value, top5, confusion)


def _facts(classifier: Classifier, judged: Judgment, data: Path | None) -> list[tuple[str, str]]:
    manifest, config = classifier.manifest, classifier.config
    summary = read_summary(classifier.folder) or {}
    pairs = [
        ("run", str(classifier.folder)),
        ("judged on", f"{judged.split} of {data or config.data.folder}"),
        ("trained on", f"{manifest.dataset}: {num_training_samples(config, manifest):,} images of"
         f" {manifest.num_classes} classes"),
        ("net", f"{config.model.name}, {config.augment.image_size} px"),
        ("best epoch", f"{summary.get('best_epoch')} of {summary.get('epochs')}"),
        ("time", f"{summary.get('seconds', 0.0):.0f} s"),
        ("machine", f"{summary.get('machine')}; torch {summary.get('torch')},"
         f" {summary.get('precision')}"),
    ]  # fmt: skip
    return pairs if summary else pairs[:4]
