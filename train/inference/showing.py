"""What `validate` shows of a judgment: figures in a folder, and the page of a run.

In: a Classifier, a judgment, a path. Out: pictures of the highest losses; PNG files; an HTML file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from slipform.pipelines.errors import SlipformError
from slipform.pipelines.files import write_whole
from slipform.train.config.toml import to_toml
from slipform.train.figures import curves, result
from slipform.train.figures.calibration import label_reliability_figure, reliability_figure
from slipform.train.figures.draw import save
from slipform.train.figures.label_pictures import label_losses_figure, label_maps_figure
from slipform.train.figures.labels import judged_figure
from slipform.train.figures.pictures import losses_figure, maps_figure
from slipform.train.inference.classifier import Classifier
from slipform.train.inference.data import first_image
from slipform.train.inference.pictures import label_pictures_of, pictures_of
from slipform.train.page.label_page import label_page
from slipform.train.page.parts import Replayed
from slipform.train.page.run_page import run_page
from slipform.train.records import read_summary
from slipform.train.run.folder import locked_if_run
from slipform.train.scores.judgment import Judgment
from slipform.train.scores.label_judgment import LabelJudgment
from slipform.train.step.data import num_training_samples
from slipform.train.step.metrics import Evaluation

__all__ = ["Shown", "draw_figures", "pictures", "write_report"]

_LOSSES, _MAPS = 24, 8  # pictures

AnyJudgment = Judgment | LabelJudgment


@dataclass(frozen=True)
class Shown:
    """The pictures of a judgment: `Picture`, or `LabelPicture` if images have several labels.

    Attributes:
        losses: The images with the highest losses.
        maps: Some of them with class activation maps.
        missing: Sentences about what could not be made.
    """

    losses: Sequence[Any]
    maps: Sequence[Any]
    missing: Sequence[str]


def pictures(classifier: Classifier, judged: AnyJudgment, data: Path | None) -> Shown:
    """Make the pictures of the highest losses, some of them with class activation maps.

    Args:
        classifier: The model.
        judged: What it says.
        data: The dataset of the judgment; None: that of the run.
    """
    missing = list[str]()

    def made(most: int, *, maps: bool) -> list[Any]:
        at = judged.top_losses[:most]
        try:
            if isinstance(judged, LabelJudgment):
                return label_pictures_of(classifier, judged, at, data, maps=maps)
            return pictures_of(classifier, judged.answers, judged.split, at, data, maps=maps)
        except SlipformError as error:
            missing.append(error.message)
            return []

    losses, maps = made(_LOSSES, maps=False), made(_MAPS, maps=True)
    return Shown(losses, maps, list(dict.fromkeys(missing)))


def draw_figures(
    classifier: Classifier, judged: AnyJudgment, data: Path | None, out: Path, shown: Shown
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
            result.first_layer(out, classifier.model, first)
            _draw_classes(judged, out)
        several = isinstance(judged, LabelJudgment)
        if len(judged.answers):
            draw = label_reliability_figure if several else reliability_figure
            save(draw(judged.calibration), out, "reliability.png")
        if shown.losses:
            draw_losses = label_losses_figure if several else losses_figure
            save(draw_losses(shown.losses), out, "top_losses.png")
        if shown.maps:
            draw_maps = label_maps_figure if several else maps_figure
            save(draw_maps(shown.maps), out, "class_maps.png")


def _draw_classes(judged: AnyJudgment, out: Path) -> None:
    if isinstance(judged, LabelJudgment):
        save(judged_figure(judged), out, "per_class.png")
        return
    result.per_class(out, _evaluation(judged), list(judged.classes))
    result.confusion(out, _evaluation(judged), list(judged.classes))


def write_report(
    classifier: Classifier,
    judged: AnyJudgment,
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
    parts: dict[str, Any] = {
        "facts": _facts(classifier, judged.split, data), "settings": to_toml(classifier.config),
        "losses": shown.losses, "maps": shown.maps, "batch": batch,
        "notes": [*notes, *shown.missing],
    }  # fmt: skip
    if isinstance(judged, LabelJudgment):
        text = label_page(classifier.folder, judged, **parts)
    else:
        text = run_page(classifier.folder, judged, **parts)
    out.parent.mkdir(parents=True, exist_ok=True)
    with locked_if_run(out.parent, out.name):
        write_whole(out, text)


def _evaluation(judged: Judgment) -> Evaluation:
    figures = judged.figures
    top5 = figures["top5"].value if "top5" in figures else 1.0
    confusion = torch.from_numpy(judged.answers.confusion)
    return Evaluation(figures["loss"].value, figures["top1"].value, top5, confusion)


def _facts(classifier: Classifier, split: str, data: Path | None) -> list[tuple[str, str]]:
    manifest, config = classifier.manifest, classifier.config
    summary = read_summary(classifier.folder) or {}
    pairs = [
        ("run", str(classifier.folder)),
        ("judged on", f"{split} of {data or config.data.folder}"),
        ("trained on", f"{manifest.dataset}: {num_training_samples(config, manifest):,} images of"
         f" {manifest.num_classes} classes"),
        ("net", f"{config.model.name}, {config.augment.image_size} px"),
        ("best epoch", f"{summary.get('best_epoch')} of {summary.get('epochs')}"),
        ("time", f"{summary.get('seconds', 0.0):.0f} s"),
        ("machine", f"{summary.get('machine')}; torch {summary.get('torch')},"
         f" {summary.get('precision')}"),
    ]  # fmt: skip
    return pairs if summary else pairs[:4]
