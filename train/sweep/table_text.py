"""The table of a sweep as Markdown.

In: the runs, and the lines of table.csv. Out: lines of text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

__all__ = ["OWN_COLUMNS", "flat", "machines", "markdown", "spread", "value_text"]

# Reported values with columns of their own, unlike the other ones.
OWN_COLUMNS = ("seconds", "minutes", "outcome", "val_accuracy", "test_accuracy")


class _Run(Protocol):
    """An entry of a recipe."""

    @property
    def name(self) -> str:
        """The name of the run."""

    @property
    def overrides(self) -> dict[str, Any]:
        """The settings that differ from the recipe's."""


def markdown(runs: Iterable[_Run], table: Sequence[Mapping[str, Any]]) -> list[str]:
    """The lines of the table, without empty columns. The precision is told where runs differ in it.

    Args:
        runs: The entries of the recipe.
        table: The line of table.csv of each of them: name of a column -> value, "" without one.
    """
    lines = []
    precisions = "; ".join({cells["precision"] for cells in table if cells.get("precision")})
    for run, cells in zip(runs, table, strict=True):
        also = [
            f"{key} {_figure(cells[f'reported_{key}'])} → {_figure(cells.get(key, ''))}"
            for key in _others(cells)
        ]
        overrides = flat(run.overrides).items()
        lines.append(
            {
                "run": run.name,
                "settings": ", ".join(f"{_short(key)} {value_text(v)}" for key, v in overrides),
                "val, reported": _number(cells, "reported_val_accuracy", ".4g"),
                "val": _number(cells, "val_accuracy", ".4f"),
                "test, reported": _number(cells, "reported_test_accuracy", ".4g"),
                "test": _number(cells, "test_accuracy", ".4f"),
                "points": _number(cells, "points", "+.1f"),
                "seconds, reported": _number(cells, "reported_seconds", ".0f"),
                "seconds": _number(cells, "seconds", ".0f"),
                "times faster": _number(cells, "times_faster", ".3g"),
                "images/s": _number(cells, "images_per_second", ",.0f"),
                "precision": cells.get("precision", "") if "; " in precisions else "",
                "other figures, reported → measured": ", ".join(also),
                "note": cells["note"].replace("|", "/"),
            }
        )
    columns = [column for column in lines[0] if any(line[column] for line in lines)]
    body = [[line[column] for column in columns] for line in lines]
    return ["| " + " | ".join(cells) + " |" for cells in (columns, ["---"] * len(columns), *body)]


def spread(table: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line that says what the numbers after ± are. No line without such numbers.

    Args:
        table: The lines of table.csv.
    """
    repeated = [
        cells
        for cells in table
        if any(value != "" for key, value in cells.items() if key.endswith("_std"))
    ]
    if not repeated:
        return []
    kind = "folds" if any("folds" in cells for cells in repeated) else "seeds"
    counts = sorted({int(cells.get(kind, 0)) for cells in repeated})
    number = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return [f"- ±: mean ± sample standard deviation over {number} runs with other {kind}"]


def machines(finished: Iterable[Mapping[str, Any]]) -> list[str]:
    """The machines and versions that runs recorded, a line for each.

    Args:
        finished: The summaries of the runs.
    """
    how = {
        (s["machine"], s["torch"], s["precision"] + (", compiled" if s["compiled"] else ""),
         s["executor"])
        for s in finished
    }  # fmt: skip
    return [
        f"- Machine: {machine}; torch {torch}, {mode}, executor {executor}"
        for machine, torch, mode, executor in sorted(how)
    ]


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names: {"optimizer": {"lr": 1}} -> {"optimizer.lr": 1}.

    Args:
        settings: The settings.
        prefix: What stands before the names.
    """
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found |= (
            flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
        )
    return found


def value_text(value: Any) -> str:
    """A setting as text: 0.1, "3 3", "adam".

    Args:
        value: The value.
    """
    return (
        " ".join(map(str, value))
        if isinstance(value, list | tuple)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )


def _others(cells: Mapping[str, Any]) -> list[str]:
    names = [key.removeprefix("reported_") for key in cells if key.startswith("reported_")]
    return [name for name in names if name not in OWN_COLUMNS]


def _figure(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _number(cells: Mapping[str, Any], key: str, form: str) -> str:
    """The number, with its standard deviation if there is one; "" if there is no number."""
    if cells.get(key, "") == "":
        return ""
    spread = cells.get(f"{key}_std", "")
    return f"{cells[key]:{form}}" + (f" ± {spread:{form}}" if spread != "" else "")


def _short(dotted: str) -> str:
    section, _, key = dotted.rpartition(".")
    return section if key == "name" else key
