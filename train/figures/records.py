"""Figures from a run's TensorBoard records: the first batch, and how the first layer's numbers
spread over the epochs.

In: a run folder. Out: first_batch.png, first_layer.png.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from slipform.pipelines.files import write_whole
from slipform.train.figures.draw import FOLDER, new_figure, save

NUM_BINS = 80
Floats = npt.NDArray[np.float64]


def all_of_records(run: Path, out: Path | None = None) -> list[Path]:
    """Both figures in `out`, or the run's figures/; without records of a kind, not that figure."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    records = EventAccumulator(str(run), {"histograms": 0, "images": 1})  # 0: all of them
    records.Reload()
    out = out or run / FOLDER
    return [*first_batch(records, out), *first_layer_spread(records, out)]


def first_batch(records: Any, out: Path) -> list[Path]:
    """first_batch.png: up to 16 images of the first batch as the net saw them, each stretched to
    the full range."""
    if not records.Tags()["images"]:
        return []
    out.mkdir(parents=True, exist_ok=True)
    path = out / "first_batch.png"
    image = records.Images(records.Tags()["images"][0])[0]
    write_whole(path, image.encoded_image_string)  # a PNG already
    return [path]


def first_layer_spread(records: Any, out: Path) -> list[Path]:
    """first_layer.png: the first layer's weights and biases, and their gradients, one histogram an
    epoch from left to right.

    Darker: a larger share of that epoch's values.
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
        panel.xaxis.get_major_locator().set_params(integer=True)
    return [save(figure, out, "first_layer.png")]


def spread(histograms: list[tuple[Any, Any]]) -> tuple[Floats, Floats]:
    """Histograms (upper limits of the buckets, counts), each with its own buckets, on common bins.

    Returns the edges [NUM_BINS + 1] and the share of each histogram's values in each bin
    [histograms, NUM_BINS]. Within a bucket the values are taken to lie evenly.
    """
    limits = [np.asarray(limit, np.float64) for limit, _ in histograms]
    low, high = min(limit[0] for limit in limits), max(limit[-1] for limit in limits)
    edges = np.linspace(low, high, NUM_BINS + 1)
    shares = []
    for limit, (_, counts) in zip(limits, histograms, strict=True):
        below = np.cumsum(np.asarray(counts, np.float64))
        shares.append(np.diff(np.interp(edges, limit, below, left=0.0)) / below[-1])
    return edges, np.array(shares)
