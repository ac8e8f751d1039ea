"""What a dataset folder holds, for people: tables on the terminal, a figure of samples and class
sizes.

In: a dataset folder and its manifest. Out: text, and a PNG (or what the name's ending says).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from slipform.pipelines.beton import RAW, Beton
from slipform.pipelines.decoding.any_image import Pixels, decode
from slipform.pipelines.errors import ConfigError, printable
from slipform.pipelines.manifest import Manifest

GRID_ROWS, GRID_COLUMNS = 4, 8


def print_tables(folder: Path, manifest: Manifest) -> None:
    """Splits with counts, bytes, sizes and modes; classes with counts; how the dataset came
    about."""
    console = Console()
    splits = Table(
        "split",
        "images",
        "MB",
        "width",
        "height",
        "stored as",
        "images per class",
        title=escape(printable(f"{manifest.dataset}: {folder}")),
    )
    for name, info in manifest.splits.items():
        modes = ", ".join(f"{number:,} {mode}" for mode, number in info.modes.items() if number)
        widths, heights = (
            f"{info.min_width} to {info.max_width}",
            f"{info.min_height} to {info.max_height}",
        )
        per_class = f"{min(info.counts)} to {max(info.counts)}"
        splits.add_row(
            name,
            f"{info.num_samples:,}",
            f"{info.bytes / 1e6:,.1f}",
            widths,
            heights,
            modes,
            per_class,
        )
    classes = Table("label", "class", *manifest.splits, title=f"{manifest.num_classes} classes")
    for label, name in enumerate(manifest.classes):
        classes.add_row(
            str(label),
            escape(printable(name)),
            *(str(info.counts[label]) for info in manifest.splits.values()),
        )
    console.print(splits, classes)
    console.print(f"split: {printable(manifest.split_rule)}", highlight=False, markup=False)
    console.print(
        "mean "
        + ", ".join(f"{m:.4f}" for m in manifest.mean)
        + "; std "
        + ", ".join(f"{s:.4f}" for s in manifest.std),
        highlight=False,
    )
    if manifest.converted:
        console.print(
            "converted: "
            + ", ".join(f"{number:,} {reason}" for reason, number in manifest.converted.items()),
            highlight=False,
        )
    if manifest.rejected:
        console.print(f"left out: {manifest.rejected:,}, listed in rejected.csv", highlight=False)


def draw_figure(folder: Path, manifest: Manifest, path: Path) -> None:
    """A grid of evenly spaced train samples, one row of class counts per split under it."""
    num_splits = len(manifest.splits)
    figure = Figure(
        figsize=(GRID_COLUMNS * 1.5, GRID_ROWS * 1.6 + num_splits * 1.8), layout="constrained"
    )
    if path.suffix[1:] not in (kinds := FigureCanvasAgg(figure).get_supported_filetypes()):
        raise ConfigError(
            f'a figure cannot be written as "{path.name}". Endings that can:'
            f" {', '.join(sorted(kinds))}."
        )
    samples, counts = figure.subfigures(
        2, 1, squeeze=False, height_ratios=[GRID_ROWS * 1.6, num_splits * 1.8]
    )[:, 0]
    beton = Beton(folder / manifest.split("train").file)
    cells = samples.subplots(GRID_ROWS, GRID_COLUMNS).ravel()
    for cell in cells:
        cell.set_axis_off()
    # Samples are stored by class: even spacing shows as many classes as there are cells.
    for cell, index in zip(
        cells, np.unique(np.linspace(0, len(beton) - 1, len(cells)).astype(int)), strict=False
    ):
        cell.imshow(_pixels(beton, int(index)), cmap="gray", vmin=0, vmax=255)
        name = printable(manifest.classes[beton.labels[index]])
        cell.set_title(name, fontsize=7, parse_math=False)
    for axes, (name, info) in zip(
        counts.subplots(num_splits, 1, squeeze=False)[:, 0], manifest.splits.items(), strict=True
    ):
        axes.bar(
            range(manifest.num_classes), info.counts, width=1.0, edgecolor="white", linewidth=0.3
        )
        axes.set(title=f"{name}: {info.num_samples:,} images", xlabel="class", ylabel="images")
    figure.savefig(path, dpi=120)


def _pixels(beton: Beton, index: int) -> Pixels:
    if beton.modes[index] == RAW:
        return beton.raw(index)
    return decode(beton.bytes_of(index).tobytes()).pixels
