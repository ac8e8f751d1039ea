"""The output of the command `validate` for a run whose images have several labels.

In: a LabelJudgment. Out: lines for the terminal, or values for JSON.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from slipform.pipelines.errors import printable
from slipform.train.scores.label_judgment import LABEL_HEADLINES, LabelJudgment

__all__ = ["lines", "values"]


def values(judged: LabelJudgment) -> dict[str, Any]:
    """The figures for JSON; nan where there is none.

    Args:
        judged: The judgment.
    """
    scores, figures = judged.scores, judged.figures
    precision, found = judged.average_precision, judged.calibration
    columns: dict[str, Any] = {
        "average_precision": [one.value for one in precision], "auroc": judged.auroc,
        "precision": scores.precision, "recall": scores.recall, "f1": scores.f1,
        "threshold": judged.thresholds,
    }  # fmt: skip
    return {
        "split": judged.split,
        "images": len(judged.answers),
        **{name: one.value for name, one in figures.items()},
        "intervals": {name: [one.low, one.high] for name, one in figures.items()},
        "temperature": found.temperature,
        "ece_with_temperature": float(found.after.error) if found.after else None,
        "classes": {
            name: {"images": int(scores.images[c])}
            | {key: float(column[c]) for key, column in columns.items()}
            | {"average_precision_interval": [precision[c].low, precision[c].high]}
            for c, name in enumerate(judged.classes)
        },
    }


def lines(judged: LabelJudgment) -> Iterator[str]:
    """The lines of the table, the figures with their intervals, and one line with the means.

    Args:
        judged: The judgment.
    """
    names, scores = [printable(name) for name in judged.classes], judged.scores
    width = max(map(len, names))
    yield f"{'class':<{width}}  images      AP   AUROC  precision  recall      F1  threshold"
    for c, name in enumerate(names):
        count = int(scores.images[c])
        if not count:
            yield f"{name:<{width}}  no images"
            continue
        area = "      –" if math.isnan(judged.auroc[c]) else f"{judged.auroc[c]:7.4f}"
        yield (
            f"{name:<{width}}  {count:6}  {judged.average_precision[c].value:6.4f} {area}"
            f"  {scores.precision[c]:9.4f}  {scores.recall[c]:6.4f}  {scores.f1[c]:6.4f}"
            f"  {judged.thresholds[c]:9.4f}"
        )
    figures = judged.figures
    for key, one in figures.items():
        if not math.isnan(one.value):
            yield f"{LABEL_HEADLINES[key]}: {one}"
    found = judged.calibration
    if not math.isnan(found.temperature):
        after = f", with it ECE {float(found.after.error):.4f}" if found.after else ""
        yield f"temperature fitted on val: {found.temperature:.3f}{after}"
    means = ", ".join(
        f"{word} {figures[key].value:.4f}"
        for word, key in (("mAP", "map"), ("F1", "f1"), ("AUROC", "auroc"), ("loss", "loss"))
    )
    yield f"{judged.split}: {means}, {len(judged.answers)} images"
