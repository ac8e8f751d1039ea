"""`prepare`: a named dataset from raw files to a dataset folder, as the command `prep` does it.

In: a dataset's name, where its raw files lie, and options. Out: the dataset folder and its
manifest.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from slipform.pipelines.errors import ConfigError, DatasetError, unknown
from slipform.pipelines.manifest import Manifest
from slipform.preprocess.archive import unpacked
from slipform.preprocess.build import build_dataset
from slipform.preprocess.encode import Encoding
from slipform.preprocess.registry import Dataset, discover
from slipform.preprocess.source import SampleSource


def prepare(
    dataset: str,
    *,
    out: str | os.PathLike[str],
    source: str | os.PathLike[str] | None = None,
    download: str | os.PathLike[str] | None = None,
    encoding: str = "keep",
    quality: int = 95,
    shorter_side: int | None = None,
    max_side: int | None = None,
    bits: int = 16,
    no_check: bool = False,
    strict: bool = False,
    on_bad: str = "error",
    threads: int = 0,
    **options: Any,
) -> Manifest:
    """Write an image dataset once into .beton files, as the command `prep` does.

    Args:
        dataset: A subcommand of `prep`: "images", "cifar10", "shapes", ...
        out: The dataset folder to write; a dataset that is there is replaced as a whole.
        source: Folder or archive with the raw files.
        download: Fetch the official files into this folder first and take them from there.
        encoding: "keep": JPEG bytes unchanged, other files as JPEG, arrays as raw pixels. "jpeg":
            all encoded anew. "raw": pixels.
        quality: Of what is encoded as JPEG, 1 to 100.
        shorter_side: Reduce images whose shorter side is longer, in pixels.
        max_side: Reduce images whose longer side is longer, in pixels.
        bits: How many bits of 16-bit PNG and TIFF files carry the image, 8 to 16.
        no_check: Do not decode what is kept as it is; mean and std are then estimated.
        strict: Also JPEGs with damage that decoders pass over are unusable.
        on_bad: "error": list all unusable images and write nothing. "skip": leave them out and name
            them in rejected.csv and report.txt.
        threads: 0: one per core.
        options: Those of the dataset, with `_` for `-`: `val_fraction=0.2`, `layout="classes"`.

    Returns:
        The manifest of the dataset; `manifest.account` says what was found.

    Raises:
        ConfigError: A dataset or option that does not exist, or a value that is not allowed.
        DatasetError: Raw files are missing, damaged, or can be meant in two ways.
        OSError: The disk is full or fails.

    Example:
        >>> import slipform as sf
        >>> manifest = sf.prepare("shapes", out="data/few-shapes", num_train=60)
        >>> manifest.num_classes
        6
    """
    chosen = discover().get(dataset)
    if chosen is None:
        raise unknown("dataset", dataset, discover())
    how = Encoding(encoding, quality, shorter_side, max_side, not no_check, bits, strict)
    if on_bad not in ("error", "skip"):
        raise unknown("on_bad", on_bad, ("error", "skip"))
    raw, fetched = (None if path is None else Path(path) for path in (source, download))
    with opened(chosen, raw, fetched, _checked(chosen, options)) as samples:
        return build_dataset(samples, Path(out), how, threads=threads, on_bad=on_bad)


@contextmanager
def opened(
    dataset: Dataset, source: Path | None, download: Path | None, options: Mapping[str, Any]
) -> Iterator[SampleSource]:
    """The samples of a dataset, listed; archives stay unpacked within the block.

    Args:
        dataset: Which.
        source: Folder or archive with the raw files.
        download: The folder to fetch them into, instead.
        options: Those of the dataset, complete and checked.

    Yields:
        The samples.

    Raises:
        ConfigError: Not one of `source` and `download` is given.
        DatasetError: The files are missing, damaged, or can be meant in two ways.
    """
    if dataset.takes_source and (source is None) == (download is None):
        raise ConfigError(
            "give --source, the folder or archive with the raw data"
            + (", or --download DIR to fetch it." if dataset.torchvision else ".")
        )
    if download is not None:
        try:
            download.mkdir(parents=True, exist_ok=True)
            dataset.download(download)
        # No network (URLError), or a file whose checksum differs.
        except (OSError, RuntimeError) as error:
            raise DatasetError(
                f"the download failed ({error}). Put into {download}: {dataset.files}. Then use"
                f" --source {download}"
            ) from None
        source = download
    if source is None:
        yield dataset.read(None, **options)
    elif not source.exists():
        raise DatasetError(
            f"{source} does not exist. --source takes a folder or archive with {dataset.files}."
        )
    else:
        with unpacked(source) as folder:
            yield dataset.read(folder, **options)


def _checked(dataset: Dataset, given: Mapping[str, Any]) -> dict[str, Any]:
    """The dataset's options with their defaults, each checked as the command line would."""
    known = {option.name: option for option in dataset.options if option.name}
    for name in given:
        if name not in known:
            raise unknown(f"option of {dataset.name}", name, known)
    command = click.Command(dataset.name, params=list(dataset.options))
    values = dict(command.make_context(dataset.name, []).params)
    for name, value in given.items():
        try:
            values[name] = known[name].type.convert(value, known[name], None)
        except click.BadParameter as error:
            raise ConfigError(f"{name}: {error.message}") from None
    return values
