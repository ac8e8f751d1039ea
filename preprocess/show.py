"""The content of a dataset folder for people: tables on the terminal, a figure.

In: a dataset folder and its manifest. Out: text, and a figure of samples and class sizes. Its
format follows from the ending of its name.
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
from slipform.pipelines.decoding.any_image import PixelArray, decode
from slipform.pipelines.errors import ConfigError, printable
from slipform.pipelines.manifest import Manifest

__all__ = ["draw_figure", "print_tables"]

_GRID_ROWS, _GRID_COLUMNS = 4, 8


def print_tables(folder: Path, manifest: Manifest) -> None:
    """Print tables of splits and classes, and how the dataset was made.

    Args:
        folder: The dataset folder.
        manifest: Its manifest.
    """
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
        widths = f"{info.min_width} to {info.max_width}"
        heights = f"{info.min_height} to {info.max_height}"
        images, megabytes = f"{info.num_samples:,}", f"{info.bytes / 1e6:,.1f}"
        per_class = f"{min(info.counts)} to {max(info.counts)}"
        splits.add_row(name, images, megabytes, widths, heights, modes, per_class)
    classes = Table("label", "class", *manifest.splits, title=f"{manifest.num_classes} classes")
    for label, name in enumerate(manifest.classes):
        classes.add_row(
            str(label),
            escape(printable(name)),
            *(str(info.counts[label]) for info in manifest.splits.values()),
        )
    console.print(splits, classes)
    console.print(f"split: {printable(manifest.split_rule)}", highlight=False, markup=False)
    mean, std = (", ".join(f"{v:.4f}" for v in values) for values in (manifest.mean, manifest.std))
    console.print(f"mean {mean}; std {std}", highlight=False)
    if manifest.converted:
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in manifest.converted.items())
        console.print(f"converted: {reasons}", highlight=False)
    if manifest.rejected:
        console.print(f"left out: {manifest.rejected:,}, listed in rejected.csv", highlight=False)


def draw_figure(folder: Path, manifest: Manifest, path: Path) -> None:
    """Draw a grid of samples of train, and the class counts of each split below it.

    Args:
        folder: The dataset folder.
        manifest: Its manifest.
        path: The figure to write.

    Raises:
        ConfigError: The ending of `path` is not a format of figures.
        DatasetError: The dataset has no split "train", or its beton is damaged.
    """
    num_splits = len(manifest.splits)
    figure = Figure(
        figsize=(_GRID_COLUMNS * 1.5, _GRID_ROWS * 1.6 + num_splits * 1.8), layout="constrained"
    )
    if path.suffix[1:] not in (kinds := FigureCanvasAgg(figure).get_supported_filetypes()):
        raise ConfigError(
            f'a figure cannot be written as "{path.name}". Endings that can:'
            f" {', '.join(sorted(kinds))}."
        )
    samples, counts = figure.subfigures(
        2, 1, squeeze=False, height_ratios=[_GRID_ROWS * 1.6, num_splits * 1.8]
    )[:, 0]
    beton = Beton(folder / manifest.split("train").file)
    cells = samples.subplots(_GRID_ROWS, _GRID_COLUMNS).ravel()
    for cell in cells:
        cell.set_axis_off()
    # Samples are stored by class, so evenly spaced ones show as many classes as possible.
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


def _pixels(beton: Beton, index: int) -> PixelArray:
    if beton.modes[index] == RAW:
        return beton.raw(index)
    return decode(beton.bytes_of(index).tobytes()).pixels
