"""The output of the command `validate` for a run whose images have several labels.

In: a LabelEvaluation. Out: lines for the terminal, or values for JSON.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from slipform.pipelines.errors import printable
from slipform.train.step.label_metrics import LabelEvaluation

__all__ = ["lines", "values"]


def values(result: LabelEvaluation, split: str, classes: list[str]) -> dict[str, Any]:
    """The figures for JSON; nan where there is none.

    Args:
        result: The result.
        split: The name of the split.
        classes: The names of the classes.
    """
    scores, images = result.scores, result.positive.sum(0)
    columns = {
        "average_precision": result.average_precision, "auroc": result.auroc,
        "precision": scores.precision, "recall": scores.recall, "f1": scores.f1,
        "threshold": result.thresholds,
    }  # fmt: skip
    return {
        "split": split,
        "images": result.num_images,
        "map": result.mean_average_precision,
        **result.values,
        "loss": result.loss,
        "classes": {
            name: {"images": int(images[c])}
            | {key: float(column[c]) for key, column in columns.items()}
            for c, name in enumerate(classes)
        },
    }


def lines(result: LabelEvaluation, split: str, classes: list[str]) -> Iterator[str]:
    """The lines of the table, and one with the means.

    Args:
        result: The result.
        split: The name of the split.
        classes: The names of the classes.
    """
    names, scores, images = [printable(name) for name in classes], result.scores, result.positive
    width = max(map(len, names))
    yield f"{'class':<{width}}  images      AP   AUROC  precision  recall      F1  threshold"
    for c, name in enumerate(names):
        count = int(images[:, c].sum())
        if not count:
            yield f"{name:<{width}}  no images"
            continue
        area = "      –" if math.isnan(result.auroc[c]) else f"{result.auroc[c]:7.4f}"
        yield (
            f"{name:<{width}}  {count:6}  {result.average_precision[c]:6.4f} {area}"
            f"  {scores.precision[c]:9.4f}  {scores.recall[c]:6.4f}  {scores.f1[c]:6.4f}"
            f"  {result.thresholds[c]:9.4f}"
        )
    yield (
        f"{split}: mAP {result.mean_average_precision:.4f}, F1 {result.macro_f1:.4f}, AUROC"
        f" {result.values['auroc']:.4f}, loss {result.loss:.4f}, {result.num_images} images"
    )
