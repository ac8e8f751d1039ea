"""The content of a dataset folder for people: tables on the terminal, a figure.

In: a dataset folder and its manifest. Out: text, and a figure of samples and class sizes. Its
format follows from the ending of its name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from slipform.pipelines.beton import Beton
from slipform.pipelines.beton_format import RAW
from slipform.pipelines.dataset import open_split
from slipform.pipelines.decoding.any_image import PixelArray, decode
from slipform.pipelines.errors import ConfigError, SampleError, printable
from slipform.pipelines.files import replacing
from slipform.pipelines.glyphs import any_characters
from slipform.pipelines.manifest import Manifest
from slipform.preprocess.atomic_folder import REJECTED

__all__ = ["draw_figure", "print_tables"]

_GRID_ROWS, _GRID_COLUMNS = 4, 8


def print_tables(folder: Path | str, manifest: Manifest) -> None:
    """Print tables of splits and classes, and how the dataset was made.

    Args:
        folder: The dataset folder, or its URL.
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
        title=_shown(f"{manifest.dataset}: {folder}"),
    )
    for name, info in manifest.splits.items():
        modes = ", ".join(
            f"{number:,} {_shown(mode)}" for mode, number in info.modes.items() if number
        )
        widths = f"{info.min_width} to {info.max_width}"
        heights = f"{info.min_height} to {info.max_height}"
        images, megabytes = f"{info.num_samples:,}", f"{info.bytes / 1e6:,.1f}"
        least, most = min(info.counts), max(info.counts)
        per_class = f"{least} to {most}" if least < most else str(most)
        splits.add_row(_shown(name), images, megabytes, widths, heights, modes, per_class)
    classes = Table(
        "label", "class", *map(_shown, manifest.splits), title=f"{manifest.num_classes} classes"
    )
    for label, name in enumerate(manifest.classes):
        classes.add_row(
            str(label),
            _shown(name),
            *(str((info.label_counts or info.counts)[label]) for info in manifest.splits.values()),
        )
    console.print(splits, classes)
    console.print(f"split: {printable(manifest.split_rule)}", highlight=False, markup=False)
    mean, std = (", ".join(f"{v:.4f}" for v in values) for values in (manifest.mean, manifest.std))
    console.print(f"mean {mean}; std {std}", highlight=False)
    if manifest.converted:
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in manifest.converted.items())
        console.print(f"converted: {printable(reasons)}", highlight=False, markup=False)
    if manifest.rejected:
        console.print(f"left out: {manifest.rejected:,}, listed in {REJECTED}", highlight=False)


def _shown(name: str) -> str:
    """An untrusted name as a cell of a table."""
    return escape(printable(name))


def draw_figure(folder: Path, manifest: Manifest, path: Path, *, samples: bool = True) -> None:
    """Draw a grid of samples of train, and below it the class counts of all splits and of each.

    The file is written completely or not at all.

    Args:
        folder: The dataset folder.
        manifest: Its manifest.
        path: The figure to write.
        samples: Whether the grid of samples is drawn.

    Raises:
        ConfigError: The ending of `path` is not a format of figures.
        DatasetError: The dataset has no split "train", or its beton is damaged.
        SampleError: A sample in the grid cannot be decoded.
        OSError: The file cannot be written.
    """
    distributions = _distributions(manifest)
    num_panels = len(distributions)
    heights = [_GRID_ROWS * 1.6 if samples else 0.0, num_panels * 1.8]
    figure = Figure(figsize=(_GRID_COLUMNS * 1.5, sum(heights)), layout="constrained")
    if path.suffix[1:] not in (kinds := FigureCanvasAgg(figure).get_supported_filetypes()):
        raise ConfigError(
            f'a figure cannot be written as "{path.name}". Endings that can:'
            f" {', '.join(sorted(kinds))}."
        )
    counts: Any = figure
    if samples:
        grid, counts = figure.subfigures(2, 1, squeeze=False, height_ratios=heights)[:, 0]
        _draw_samples(grid, open_split(folder, manifest, "train"), manifest.classes)
    for axes, (title, images) in zip(
        counts.subplots(num_panels, 1, squeeze=False)[:, 0], distributions.items(), strict=True
    ):
        axes.bar(range(manifest.num_classes), images, width=1.0, edgecolor="white", linewidth=0.3)
        axes.set(xlabel="class", ylabel="images")
        axes.set_title(printable(title), parse_math=False)
    with replacing(path) as temporary, any_characters():
        figure.savefig(temporary, dpi=120, format=path.suffix[1:])


def _draw_samples(grid: Any, beton: Beton, classes: list[str]) -> None:
    """Draw samples with their classes; `grid` is a figure or a part of one."""
    cells = grid.subplots(_GRID_ROWS, _GRID_COLUMNS).ravel()
    for cell in cells:
        cell.set_axis_off()
    # Samples are stored by class, so evenly spaced ones show as many classes as possible.
    for cell, index in zip(
        cells, np.unique(np.linspace(0, len(beton) - 1, len(cells)).astype(int)), strict=False
    ):
        cell.imshow(_pixels(beton, int(index)), cmap="gray", vmin=0, vmax=255)
        cell.set_title(printable(classes[beton.labels[index]]), fontsize=7, parse_math=False)


def _distributions(manifest: Manifest) -> dict[str, list[int]]:
    """Title -> the images of each class: of all splits together, if there are several; of each."""
    found = {
        f"{name}: {info.num_samples:,} images": list(info.label_counts or info.counts)
        for name, info in manifest.splits.items()
    }
    if len(found) < 2:
        return found
    total = sum(info.num_samples for info in manifest.splits.values())
    together = [sum(counts) for counts in zip(*found.values(), strict=True)]
    return {f"all splits: {total:,} images": together, **found}


def _pixels(beton: Beton, index: int) -> PixelArray:
    if beton.modes[index] == RAW:
        return beton.raw(index)
    try:
        return decode(beton.bytes_of(index).tobytes()).pixels
    except ValueError as error:
        path, place = beton.place(index)
        raise SampleError(
            f"sample {place} of {path} cannot be decoded ({error}). Run: prep verify {path.parent}",
            place,
            int(beton.labels[index]),
        ) from error
