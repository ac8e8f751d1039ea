"""`build_dataset`: a SampleSource becomes a dataset folder. This is the flow of the package.

    source.splits --`write_splits`--> betons --`finish`--> reports and manifest

In: a SampleSource and the Encoding. Out: the dataset folder and its manifest.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from slipform.pipelines.errors import DatasetError, printable
from slipform.pipelines.files import write_whole
from slipform.pipelines.manifest import Manifest, write_manifest
from slipform.preprocess.account import account, report
from slipform.preprocess.atomic_folder import REJECTED, REPORT
from slipform.preprocess.chunk import Rejected
from slipform.preprocess.encode import KEEP, Encoding
from slipform.preprocess.places import Out, place_of
from slipform.preprocess.source import SampleSource
from slipform.preprocess.write_splits import Part, Written, statistics_step, write_splits

__all__ = ["build_dataset", "describe", "finish"]


def build_dataset(
    source: SampleSource,
    out: Out,
    encoding: Encoding = KEEP,
    *,
    threads: int = 0,
    on_bad: str = "error",
    progress: Callable[[int], None] = lambda num_samples: None,
) -> Manifest:
    """Write a dataset folder, whole or not at all. An existing dataset is replaced.

    Args:
        source: The samples.
        out: The folder. If it is a link, the folder that it points to is replaced. The URL of an
            object store: an existing dataset is replaced only if the place says `overwrite`.
        encoding: How samples are stored.
        threads: Number of threads. 0: one per core. It has no effect on the files.
        on_bad: "error": all unusable samples are listed and nothing is written. "skip": they are
            left out and named in rejected.csv and report.txt.
        progress: Called with the number of samples that were done since the last call.

    Returns:
        The manifest that was written.

    Raises:
        DatasetError: A sample is unusable, a split is empty, or `out` exists and is not a dataset.
        StorageError: The object store cannot be read or written.
        OSError: The disk is full or fails, or a file vanished.
    """
    place, lines = place_of(out), account(source, encoding)
    parts = {
        split: Part(f"{split}.beton", range(len(samples.labels)))
        for split, samples in source.splits.items()
    }
    with place.replacing() as folder:
        written = write_splits(
            source, folder, parts, encoding, threads=threads, on_bad=on_bad, progress=progress
        )
        manifest = describe(source, encoding, lines, written)
        finish(folder, manifest, source.listing.left_out, written)
    return manifest


def describe(
    source: SampleSource, encoding: Encoding, lines: list[str], written: Written
) -> Manifest:
    """The manifest of what was written.

    Args:
        source: The samples.
        encoding: How they are stored.
        lines: The account.
        written: What was written.
    """
    every = statistics_step(source, encoding)
    mean, std = written.sums.mean_std()
    return Manifest(
        dataset=source.dataset,
        options={
            **source.options,
            **_noted(encoding),
            "statistics": (
                "all pixels of train" if every == 1 else f"one of {every} images of train"
            ),
        },
        classes=list(source.classes),
        labels=source.label_kind,
        splits=written.splits,
        mean=mean,
        std=std,
        split_rule=source.split_rule,
        converted=dict(sorted(written.converted.items())),
        rejected=len(written.rejected),
        damaged=len(written.damaged),
        account=lines,
    )


def finish(
    folder: Path, manifest: Manifest, left_out: Iterable[tuple[str, str]], written: Written
) -> None:
    """Write the reports, and then dataset.json, which makes the folder a dataset.

    Args:
        folder: The folder with the betons.
        manifest: What was written.
        left_out: Path and reason of each file that was not taken as an image.
        written: The samples to name in the reports.

    Raises:
        DatasetError: A split is empty.
        OSError: The disk is full or fails.
    """
    for split, info in manifest.splits.items():
        if info.num_samples == 0:
            number = sum(of_split == split for of_split, _ in written.rejected)
            raise DatasetError(
                f"the split {split} would be empty: none of its {number} samples can be used."
            )
    if written.rejected:
        _write_rejected(folder / REJECTED, written.rejected)
    text = report(manifest, left_out, written.rejected, written.damaged)
    write_whole(folder / REPORT, text)
    write_manifest(folder, manifest)


def _noted(encoding: Encoding) -> dict[str, Any]:
    """The encoding for the manifest: the options that had an effect."""
    noted: dict[str, Any] = {"encoding": encoding.mode, "checked": encoding.check}
    if encoding.mode != "raw":
        noted["quality"] = encoding.quality
    if encoding.bits != 16:
        noted["bits"] = encoding.bits
    return noted | {
        name: side
        for name in ("shorter_side", "max_side")
        if (side := getattr(encoding, name)) is not None
    }


def _write_rejected(path: Path, rejected: list[tuple[str, Rejected]]) -> None:
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(["split", "index_in_source", "label", "name", "reason"])
    rows.writerows(
        (split, sample.index, sample.label, printable(sample.name), printable(sample.reason))
        for split, sample in rejected
    )
    write_whole(path, text.getvalue())
