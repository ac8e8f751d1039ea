"""The subcommand of `prep` that writes a dataset: `dataset_command`.

In: a `DatasetSpec`. Out: a click command. When it runs, it writes a dataset and prints its account.
Modules that are slow to import are imported when the command runs.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from slipform.pipelines.command import Command
from slipform.pipelines.remote.client import is_remote
from slipform.preprocess.engines.options import chosen_shard, shard_options
from slipform.preprocess.registry import DatasetSpec

__all__ = ["FOLDER", "dataset_command"]


class _Folder(click.ParamType[str | Path]):
    """The path of a dataset folder, or its URL in an object store."""

    name = "path or URL"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str | Path:
        return str(value) if is_remote(value) else Path(value)


FOLDER = _Folder()
_PATH = click.Path(path_type=Path)


class _OnBad(click.Choice[str]):
    """ "error" or "skip". "fail", the former name of "error", is accepted, too."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert("error" if value == "fail" else value, param, ctx)


def dataset_command(dataset: DatasetSpec) -> click.Command:
    """The subcommand of a dataset.

    Args:
        dataset: The dataset.
    """
    options = [
        click.Option(
            ["--out"],
            type=FOLDER,
            required=True,
            help=(
                "The dataset folder to write. An existing dataset is replaced as a whole. Or a URL:"
                " s3://bucket/data, gs://, az://. An existing dataset is an error there."
            ),
        ),
        click.Option(
            ["--overwrite"],
            is_flag=True,
            help=(
                "Delete the dataset at the URL of --out first. It is not there until the new one is"
                " complete."
            ),
        ),
        *dataset.options,
        click.Option(
            ["--encoding"],
            type=click.Choice(["keep", "jpeg", "raw"]),
            default="keep",
            show_default=True,
            help=(
                "keep: JPEG bytes unchanged, other files as JPEG, arrays as raw pixels; jpeg: all"
                " encoded again; raw: all as pixels."
            ),
        ),
        click.Option(
            ["--quality"],
            type=click.IntRange(1, 100),
            default=95,
            show_default=True,
            help="Quality of images that are encoded as JPEG.",
        ),
        click.Option(
            ["--shorter-side"],
            type=click.IntRange(1, 65535),
            help="Reduce images until their shorter side has at most this many pixels.",
        ),
        click.Option(
            ["--max-side"],
            type=click.IntRange(1, 65535),
            help="Reduce images until their longer side has at most this many pixels.",
        ),
        click.Option(
            ["--no-check"],
            is_flag=True,
            help=(
                "Do not check the content of JPEGs that are stored unchanged. This is quicker, but"
                " regions of JPEGs of 512x512 pixels or more take longer to read. Mean and std are"
                " estimated from about 128 images instead of 384."
            ),
        ),
        click.Option(
            ["--on-bad"],
            type=_OnBad(["error", "skip"]),
            default="error",
            show_default=True,
            help=(
                "error: list all unusable images and write nothing; skip: leave them out and name"
                " them in rejected.csv."
            ),
        ),
        click.Option(
            ["--strict"],
            is_flag=True,
            help="JPEGs whose decoder only warns about damage are unusable, too.",
        ),
        click.Option(
            ["--bits"],
            type=click.IntRange(8, 16),
            default=16,
            show_default=True,
            help="Bits that images of 16 bits (PNG, TIFF) use, such as 12 from a camera.",
        ),
        *shard_options(),
        click.Option(
            ["--dry-run"],
            is_flag=True,
            help="Print what was found, and write nothing.",
        ),
        click.Option(
            ["--threads", "--workers"],
            type=click.IntRange(0, 1024),
            default=0,
            show_default=True,
            help="Number of threads; 0: one per core. It has no effect on the files.",
        ),
    ]
    if dataset.takes_source:
        options.insert(
            0,
            click.Option(["--source"], type=_PATH, help=f"Folder or archive with {dataset.files}."),
        )
    if dataset.torchvision:
        options.insert(
            1,
            click.Option(
                ["--download"],
                type=_PATH,
                metavar="DIR",
                help="Download the official files into DIR first, and use them from there.",
            ),
        )

    return Command(
        dataset.name,
        params=list(options),
        callback=partial(_run, dataset),
        help=f"{dataset.help}\n\n\b\nExample:\n  {dataset.example}",
    )


def _run(
    dataset: DatasetSpec,
    out: Path | str,
    overwrite: bool,
    encoding: str,
    quality: int,
    shorter_side: int | None,
    max_side: int | None,
    bits: int,
    no_check: bool,
    strict: bool,
    on_bad: str,
    threads: int,
    dry_run: bool,
    shard: str,
    shards: int,
    engine: str | None,
    source: Path | None = None,
    download: Path | None = None,
    **options: Any,
) -> None:
    """Write a dataset and print its account."""
    from slipform.preprocess.account import account, closing_words, shard_words
    from slipform.preprocess.build import build_dataset
    from slipform.preprocess.encode import Encoding
    from slipform.preprocess.engines.run import write_shards
    from slipform.preprocess.places import place_of
    from slipform.preprocess.prep import opened, shard_work
    from slipform.preprocess.progress import progress_bar
    from slipform.preprocess.shards import write_shard
    from slipform.preprocess.survey import survey

    if dataset.takes_source and (source is None) == (download is None):
        raise click.UsageError(
            "give --source, the folder or archive with the raw data"
            + (", or --download DIR to fetch it." if dataset.torchvision else ".")
        )
    if overwrite and not is_remote(out):
        raise click.UsageError("--overwrite is for URLs: a local dataset is always replaced")
    part = chosen_shard(shard, shards, engine)
    if overwrite and (part or shards):
        raise click.UsageError("--overwrite replaces a whole dataset: give it without shards")
    if shards:  # workers have other working folders
        source, download = (
            None if path is None else path.absolute() for path in (source, download)
        )
    place = place_of(out, overwrite=overwrite)
    how = Encoding(encoding, quality, shorter_side, max_side, not no_check, bits, strict)
    with opened(dataset, source, download, options) as samples:
        click.echo("\n".join(account(samples, how)))
        if dry_run:
            click.echo("\n".join([*survey(samples, how), "dry run: nothing was written"]))
            return
        if shards:
            own = source or download, options, out, how, on_bad, threads, shards
            manifest = write_shards(shard_work(dataset.name, *own), samples, engine, show=True)
            click.echo("\n".join(closing_words(manifest, place)))
            return
        total = sum(len(split.labels) for split in samples.splits.values())
        with progress_bar(total // (part.count if part else 1)) as progress:
            place.report_to(progress.uploaded)
            given: dict[str, Any] = {"threads": threads, "on_bad": on_bad, "progress": progress}
            if part is None:
                lines = closing_words(build_dataset(samples, place, how, **given), place)
            else:
                lines = shard_words(part, *write_shard(samples, place, part, how, **given), place)
    click.echo("\n".join(lines))
