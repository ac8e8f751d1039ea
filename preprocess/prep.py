"""`prepare`: from the raw files of a known dataset to a dataset folder, as the command `prep`.

In: the name of a dataset, where its raw files are, and options. Out: the dataset folder and its
manifest.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click

from slipform.pipelines.command import refused_choice
from slipform.pipelines.errors import (
    ConfigError,
    DatasetError,
    SlipformError,
    nearest_path,
    unknown,
)
from slipform.pipelines.manifest import Manifest
from slipform.pipelines.notebook import in_notebook
from slipform.pipelines.remote.client import is_remote, meant_url
from slipform.preprocess.archive import unpacked
from slipform.preprocess.build import build_dataset
from slipform.preprocess.encode import Encoding
from slipform.preprocess.engines.options import ENGINES
from slipform.preprocess.engines.run import write_shards
from slipform.preprocess.engines.work import ShardWork
from slipform.preprocess.places import place_of
from slipform.preprocess.progress import progress_bar
from slipform.preprocess.registry import DatasetSpec, discover
from slipform.preprocess.shard_record import Shard
from slipform.preprocess.shards import write_shard
from slipform.preprocess.source import SampleSource
from slipform.preprocess.temporary_folder import naming

__all__ = ["opened", "prepare", "shard_work"]


def prepare(
    dataset: str,
    *,
    out: str | os.PathLike[str],
    overwrite: bool = False,
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
    shard: str = "",
    shards: int = 0,
    engine: str = "local",
    **options: Any,
) -> Manifest:
    """Write an image dataset once into .beton files, as the command `prep` does.

    In a notebook a line below the cell shows the progress.

    Args:
        dataset: A subcommand of `prep`: "images", "cifar10", "shapes", ...
        out: The dataset folder to write: a path, or the URL of an object store (s3://bucket/data).
            A local dataset is replaced as a whole.
        overwrite: A dataset at a URL is deleted first. Without it, it is an error.
        source: Folder or archive with the raw files.
        download: The official files are downloaded into this folder first, and used from there.
        encoding: "keep": the bytes of JPEGs are stored unchanged, other files as JPEG, arrays as
            raw pixels. "jpeg": all images are encoded again. "raw": all as raw pixels.
        quality: Quality of images that are encoded as JPEG, 1 to 100.
        shorter_side: Images are reduced until their shorter side has at most this many pixels.
        max_side: Images are reduced until their longer side has at most this many pixels.
        bits: How many of the 16 bits in PNG and TIFF files are used, 8 to 16.
        no_check: JPEGs that are stored unchanged are not checked, and regions of large ones take
            longer to read. Mean and std are estimated from about 128 images instead of 384.
        strict: JPEGs whose decoder only warns about damage are unusable, too.
        on_bad: "error": all unusable images are listed and nothing is written. "skip": they are
            left out and named in rejected.csv and report.txt.
        threads: Number of threads. 0: one per core.
        shard: "3/8": only the third of eight shards of each split is written to `out`, unless it is
            finished there. `slipform.preprocess.merge.merge` makes a dataset of all shards.
        shards: The number of shards. All that are not finished are written, and all are merged. 0:
            the dataset has no shards.
        engine: What writes the shards. "local": this process. "ray": tasks of Ray.
        options: Options of the dataset, with `_` for `-`: `val_fraction=0.2`, `layout="classes"`.

    Returns:
        The manifest of the dataset. `manifest.account` says what was found. With `shard`: the
        manifest of this shard alone.

    Raises:
        ConfigError: A dataset or option does not exist, or a value is not allowed.
        DatasetError: Raw files are missing, damaged, or have two possible meanings, or a shard
            failed, or there is a dataset at the URL.
        StorageError: The object store cannot be read or written.
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
    if shard and shards:
        raise ConfigError("give shard for one shard, or shards for all of them; not both")
    if engine != ENGINES[0] and not shards:
        raise ConfigError(f'engine = "{engine}" writes shards: give their number, shards')
    if overwrite and (shard or shards):
        raise ConfigError("overwrite replaces a whole dataset: give it without shard and shards")
    place = place_of(out, overwrite=overwrite)
    part, checked = Shard.parse(shard) if shard else None, _checked(chosen, options)
    if shards:  # workers have other working folders
        raw, fetched = (None if path is None else path.absolute() for path in (raw, fetched))
    with _no_usage_errors(), opened(chosen, raw, fetched, checked) as samples:
        if shards:
            own = raw or fetched, checked, out, how, on_bad, threads, shards
            work = shard_work(dataset, *own)
            return write_shards(work, samples, engine, show=in_notebook())
        total = sum(len(split.labels) for split in samples.splits.values())
        with progress_bar(total // (part.count if part else 1), terminal=False) as progress:
            place.report_to(progress.uploaded)
            given: dict[str, Any] = {"threads": threads, "on_bad": on_bad, "progress": progress}
            if part is not None:
                return write_shard(samples, place, part, how, **given)[0]
            return build_dataset(samples, place, how, **given)


@contextmanager
def _no_usage_errors() -> Iterator[None]:
    """Options that do not fit each other are no wrong command line here."""
    try:
        yield
    except click.BadParameter as error:
        raise ConfigError(error.message) from None


@contextmanager
def opened(
    dataset: DatasetSpec, source: Path | None, download: Path | None, options: Mapping[str, Any]
) -> Iterator[SampleSource]:
    """List the samples of a dataset. Archives stay unpacked during the block.

    Args:
        dataset: The dataset.
        source: Folder or archive with the raw files.
        download: Folder for the official files, instead of `source`.
        options: Options of the dataset, complete and checked.

    Yields:
        The samples.

    Raises:
        ConfigError: Neither `source` nor `download` is given, or both.
        DatasetError: The files are missing, damaged, or have two possible meanings.
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
        except SlipformError:
            raise
        # No network, a broken connection, or a wrong checksum: exceptions of many classes.
        except Exception as error:
            raise DatasetError(
                f"the download failed ({error}). Put into {download}: {dataset.files}. Then use"
                f" --source {download}"
            ) from None
        source = download
    if source is None:
        yield dataset.read(None, **options)
    elif not source.exists() and meant_url(source):
        raise DatasetError(
            "--source is a URL, and raw files are read from a disk of this machine only. Copy them"
            " to a folder first."
        )
    elif not source.exists():
        raise DatasetError(
            f"{source} does not exist.{nearest_path(source)} --source takes a folder or archive"
            f" with {dataset.files}."
        )
    elif source.is_file() and dataset.reads(source, options):
        yield _read(dataset, source, source, options)
    else:
        with unpacked(source, lambda file: dataset.reads(file, options)) as folder:
            yield _read(dataset, source, folder, options)


def _read(
    dataset: DatasetSpec, source: Path, unpacked_source: Path, options: Mapping[str, Any]
) -> SampleSource:
    with naming(source):
        return dataset.read(unpacked_source, **options)


def shard_work(
    dataset: str,
    source: Path | None,
    options: Mapping[str, Any],
    out: str | os.PathLike[str],
    encoding: Encoding,
    on_bad: str,
    threads: int,
    count: int,
) -> ShardWork:
    """How all shards of a dataset are written, for workers in other folders and on other machines.

    Args:
        dataset: The name of the dataset.
        source: Folder or archive with the raw files. None: they are generated.
        options: Options of the dataset, complete and checked.
        out: The dataset folder: a path or a URL.
        encoding, on_bad, threads: As for `write_shard`.
        count: The number of shards.
    """
    own = {name: _absolute(value) for name, value in options.items()}
    place = None if source is None else source.absolute()
    listed = partial(_listed, dataset, place, own)
    folder = str(out) if is_remote(out) else Path(out).absolute()
    portable = place is None or place.is_dir() or discover()[dataset].reads(place, own)
    return ShardWork(listed, folder, encoding, on_bad, threads, count, portable)


@contextmanager
def _listed(
    dataset: str, source: Path | None, options: Mapping[str, Any]
) -> Iterator[SampleSource]:
    with opened(discover()[dataset], source, None, options) as samples:
        yield samples


def _absolute(value: Any) -> Any:
    return value.absolute() if isinstance(value, Path) else value


def _checked(dataset: DatasetSpec, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a dataset with their defaults, checked as on the command line."""
    known = {option.name: option for option in dataset.options if option.name}
    for name in given:
        if name not in known:
            raise unknown("option", name, known, where=f"of {dataset.name}")
    command = click.Command(dataset.name, params=list(dataset.options))
    values = dict(command.make_context(dataset.name, []).params)
    for name, value in given.items():
        try:
            values[name] = known[name].type.convert(value, known[name], None)
        except click.BadParameter as error:
            message = refused_choice(error, known[name].type)
            raise ConfigError(f"{name}: {message}") from None
    return values
