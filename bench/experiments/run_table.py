"""The table of all runs with a result: reported and measured, last and best epoch, differences.

In: the outcomes of all runs. Out: Markdown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from slipform.bench.experiments.runs import Outcome

__all__ = ["machines", "run_table"]


def run_table(found: Sequence[Outcome], selections: Mapping[str, str]) -> list[str]:
    """The lines of the table.

    Args:
        found: The outcomes of all runs.
        selections: Study -> the epoch that its report tells the accuracy of: "last epoch".
    """
    lines = [
        "| run | accuracy | reported | measured | seeds | last epoch | best epoch | the report's"
        " epoch | machine | precision | differs |",
        f"| {' | '.join(['---'] * 11)} |",
    ]
    for one in found:
        if not one.has_result:
            continue
        column, reported, measured = _accuracy(one)
        last, best = _epochs(one, column)
        differs = one.differs if one.state == "other settings" else ""
        if one.state == "older or shorter":
            differs = f"earlier recipe{_epochs_note(one.note)}"
        cells = (
            f"{one.study} {one.run.name}", column.replace("_accuracy", ""), reported, measured,
            str(one.seeds or ""), last, best, selections.get(one.study, ""),
            one.machine, one.precision, differs,
        )  # fmt: skip
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return lines


def machines(found: Sequence[Outcome]) -> str:
    """Which processors gave how many of the results, as a sentence; "" without any.

    Args:
        found: The outcomes of all runs.
    """
    counted = Counter(one.machine for one in found if one.has_result and one.machine)
    parts = [f"{name} ({number} runs)" for name, number in counted.most_common()]
    return f"Trained on: {'; '.join(parts)}." if parts else ""


def _accuracy(one: Outcome) -> tuple[str, str, str]:
    """(column, reported, measured) of the accuracy that the report gives, or else of test."""
    names = ("test_accuracy", "val_accuracy")
    column = next(
        (name for name in names if name in one.run.reported and name in one.measured),
        next((name for name in names if name in one.measured), "test_accuracy"),
    )
    outcome = one.run.reported.get("outcome", "")
    reported = f"{one.run.reported[column]:.4g}" if column in one.run.reported else outcome
    measured = f"{one.measured[column]:.4f}" if column in one.measured else ""
    if one.diverged:
        measured = "diverged"
    elif (spread := one.measured.get(f"{column}_std")) is not None:
        measured += f" ± {spread:.4f}"
    return column, reported, measured


def _epochs(one: Outcome, column: str) -> tuple[str, str]:
    """The accuracy of the last and of the best epoch, on val or else on test."""
    values = one.epochs.get("val_accuracy") or one.epochs.get("test_accuracy") or []
    if not values:
        return "", ""
    on = "val" if "val_accuracy" in one.epochs else "test"
    best = max(values)
    return f"{on} {values[-1]:.4f}", f"{on} {best:.4f} ({values.index(best) + 1})"


def _epochs_note(note: str) -> str:
    return f", {note.partition(';')[0]}" if note.startswith("epochs: ") else ""
