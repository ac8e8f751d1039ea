"""Figures from a run's TensorBoard events: the first batch, and histograms of the first layer.

In: a run folder. Out: first_batch.png, first_layer.png.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from slipform.pipelines.files import write_whole
from slipform.train.figures.draw import FOLDER, new_figure, save, whole_ticks

__all__ = ["draw_events", "last_histograms", "spread"]

_NUM_BINS = 80
_Floats = npt.NDArray[np.float64]


def draw_events(run: Path, out: Path | None = None) -> list[Path]:
    """Draw first_batch.png and first_layer.png, if the run has events for them.

    Args:
        run: The run folder.
        out: The folder of the figures. Default: figures/ in the run folder.

    Returns:
        The paths of the figures.
    """
    records = _read(run)
    out = out or run / FOLDER
    return [*_first_batch(records, out), *_first_layer_spread(records, out)]


def last_histograms(run: Path, names: Sequence[str]) -> dict[str, tuple[Any, Any]]:
    """The last histogram of each name in a run's events.

    Args:
        run: The run folder.
        names: Such as "gradients/conv1.weight".

    Returns:
        Name -> the upper limits of the buckets and the counts in them. Names without a histogram
        are left out.
    """
    records = _read(run)
    known = set(names) & set(records.Tags()["histograms"])
    last = {name: records.Histograms(name)[-1].histogram_value for name in known}
    return {name: (value.bucket_limit, value.bucket) for name, value in last.items()}


def _read(run: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    records = EventAccumulator(str(run), {"histograms": 0, "images": 1})  # 0: all of them
    records.Reload()
    return records


def _first_batch(records: Any, out: Path) -> list[Path]:
    """first_batch.png: up to 16 images of the first batch; each is scaled to its own range."""
    if not records.Tags()["images"]:
        return []
    out.mkdir(parents=True, exist_ok=True)
    path = out / "first_batch.png"
    image = records.Images(records.Tags()["images"][0])[0]
    write_whole(path, image.encoded_image_string)  # a PNG already
    return [path]


def _first_layer_spread(records: Any, out: Path) -> list[Path]:
    """first_layer.png: histograms of the first layer's weights, biases and their gradients.

    Each column is the histogram of an epoch. Darker means a larger share of the values.
    """
    names = records.Tags()["histograms"]
    first = next(
        (name.split("/", 1)[1].rpartition(".")[0] for name in names if name.startswith("weights/")),
        None,
    )
    shown = [name for name in names if name.split("/", 1)[1].rpartition(".")[0] == first]
    if not shown:
        return []
    figure, axes = new_figure(len(shown), width=4.0, height=3.5)
    for panel, name in zip(np.atleast_1d(axes), sorted(shown, reverse=True), strict=True):
        events = records.Histograms(name)
        edges, shares = spread(
            [(event.histogram_value.bucket_limit, event.histogram_value.bucket) for event in events]
        )
        panel.pcolormesh(np.arange(len(events) + 1) + 0.5, edges, shares.T, cmap="Blues")
        panel.set(title=name.replace("/", " of "), xlabel="epoch")
        whole_ticks(panel.xaxis)
    return [save(figure, out, "first_layer.png")]


def spread(histograms: list[tuple[Any, Any]]) -> tuple[_Floats, _Floats]:
    """Convert histograms with different buckets to 80 common bins.

    The values within a bucket are assumed to be distributed evenly.

    Args:
        histograms: Pairs of the upper limits of the buckets and the counts in them.

    Returns:
        The edges of the bins, float64 [81], and the share of each histogram's values in each bin,
        float64 [histograms, 80].
    """
    limits = [np.asarray(limit, np.float64) for limit, _ in histograms]
    low, high = min(limit[0] for limit in limits), max(limit[-1] for limit in limits)
    edges = np.linspace(low, high, _NUM_BINS + 1)
    shares = []
    for limit, (_, counts) in zip(limits, histograms, strict=True):
        below = np.cumsum(np.asarray(counts, np.float64))
        shares.append(np.diff(np.interp(edges, limit, below, left=0.0)) / below[-1])
    return edges, np.array(shares)
