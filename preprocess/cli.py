"""`prep`: one subcommand per dataset, and `merge`, `verify` and `show` for dataset folders.

In: the command line. Out: a dataset folder, a report, an exit status. Modules that are slow to
import are imported when a command runs.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from slipform.pipelines.errors import Command, DatasetError, Group
from slipform.preprocess.engines.options import chosen_shard, shard_options
from slipform.preprocess.registry import DatasetSpec, discover

__all__ = ["main", "merge", "show", "verify"]

_FOLDER = click.Path(path_type=Path)


class _OnBad(click.Choice[str]):
    """ "error" or "skip". "fail", the former name of "error", is accepted, too."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert("error" if value == "fail" else value, param, ctx)


class _DatasetGroup(Group):
    """Finds the subcommands of the datasets only when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*discover(), *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if command := super().get_command(ctx, cmd_name):
            return command
        dataset = discover().get(cmd_name)
        return _command(dataset) if dataset else None


@click.group(cls=_DatasetGroup)
def main() -> None:
    """Write an image dataset once into .beton files, checked and whole, for `train`."""


def _command(dataset: DatasetSpec) -> click.Command:
    """The subcommand of a dataset."""
    options = [
        click.Option(
            ["--out"],
            type=_FOLDER,
            required=True,
            help="The dataset folder to write. An existing dataset is replaced as a whole.",
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
                "Do not decode images that are stored unchanged. This is quicker. Mean and std are"
                " estimated from about 128 images."
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
            help="How many of the 16 bits in PNG and TIFF files are used.",
        ),
        *shard_options(),
        click.Option(
            ["--dry-run"],
            is_flag=True,
            help="Print what was found and would be written, and stop.",
        ),
        click.Option(
            ["--threads", "--workers"],
            type=click.IntRange(0, 1024),
            default=0,
            help="Number of threads. 0, the default: one per core. It has no effect on the files.",
        ),
    ]
    if dataset.takes_source:
        options.insert(
            0,
            click.Option(
                ["--source"], type=_FOLDER, help=f"Folder or archive with {dataset.files}."
            ),
        )
    if dataset.torchvision:
        options.insert(
            1,
            click.Option(
                ["--download"],
                type=_FOLDER,
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
    out: Path,
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
    from slipform.preprocess.prep import opened, shard_work
    from slipform.preprocess.progress import progress_bar
    from slipform.preprocess.shards import write_shard
    from slipform.preprocess.survey import survey

    if dataset.takes_source and (source is None) == (download is None):
        raise click.UsageError(
            "give --source, the folder or archive with the raw data"
            + (", or --download DIR to fetch it." if dataset.torchvision else ".")
        )
    part = chosen_shard(shard, shards, engine)
    how = Encoding(encoding, quality, shorter_side, max_side, not no_check, bits, strict)
    with opened(dataset, source, download, options) as samples:
        click.echo("\n".join(account(samples, how)))
        if dry_run:
            click.echo("\n".join([*survey(samples), "dry run: nothing was written"]))
            return
        if shards:
            own = source or download, options, out, how, on_bad, threads, shards
            manifest = write_shards(shard_work(dataset.name, *own), samples, engine, show=True)
            click.echo("\n".join(closing_words(manifest, out)))
            return
        total = sum(len(split.labels) for split in samples.splits.values())
        with progress_bar(total // (part.count if part else 1)) as progress:
            given: dict[str, Any] = {"threads": threads, "on_bad": on_bad, "progress": progress}
            if part is None:
                lines = closing_words(build_dataset(samples, out, how, **given), out)
            else:
                lines = shard_words(part, *write_shard(samples, out, part, how, **given), out)
    click.echo("\n".join(lines))


@main.command()
@click.argument("folder", type=_FOLDER)
def merge(folder: Path) -> None:
    """Check all shards of a folder and make a dataset of them. The images are not written again."""
    from slipform.preprocess.account import closing_words
    from slipform.preprocess.merge import merge as merged

    click.echo("\n".join(closing_words(merged(folder), folder)))


@main.command()
@click.argument("folder", type=_FOLDER)
@click.option(
    "--threads",
    "--workers",
    type=click.IntRange(0, 1024),
    default=0,
    help="Number of threads. 0, the default: one per core.",
)
@click.option(
    "--duplicates",
    type=click.Choice(["near", "exact", "none"]),
    default="near",
    show_default=True,
    help="Report images that are in two splits: almost equal ones, too; equal ones; none.",
)
@click.option(
    "--csv", type=click.Path(path_type=Path, dir_okay=False), help="Write all duplicates here."
)
def verify(folder: Path, threads: int, duplicates: str, csv: Path | None) -> None:
    """Check every byte of a dataset: header, table, checksums, a decode of every sample.

    Images of val and test that are also in another split are reported, and are no fault.

    \b
    Example: prep verify data/cifar10 --csv duplicates.csv
    """
    from slipform.pipelines.manifest import read_manifest
    from slipform.preprocess.duplicate_report import duplicate_lines, write_csv
    from slipform.preprocess.duplicates import find_duplicates
    from slipform.preprocess.progress import progress_bar
    from slipform.preprocess.verify import find_faults

    if csv is not None and duplicates == "none":
        raise click.UsageError("--csv has the duplicates: give --duplicates near or exact")
    manifest = read_manifest(folder)
    total = sum(info.num_samples for info in manifest.splits.values())
    faults = 0
    with progress_bar(total) as progress:
        for fault in find_faults(folder, manifest, threads, progress):
            click.echo(fault)
            faults += 1
    if faults:
        plural = "s" if faults > 1 else ""
        raise DatasetError(f"{folder}: {faults} fault{plural}. Run prep again.")
    click.echo(f"{folder}: {total:,} samples, no fault")
    if duplicates == "none":
        return
    near = duplicates == "near"
    with progress_bar(total if near else 0) as progress:
        found = find_duplicates(folder, manifest, near=near, threads=threads, progress=progress)
    for line in duplicate_lines(found, folder, manifest):
        click.echo(line)
    if csv is not None:
        write_csv(found, folder, manifest, csv)


@main.command()
@click.argument("folder", type=_FOLDER)
@click.option(
    "--figure",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a grid of samples and the class distribution per split.",
)
def show(folder: Path, figure: Path | None) -> None:
    """Show what a dataset holds: splits, classes, sizes, bytes, modes."""
    from slipform.pipelines.manifest import read_manifest
    from slipform.preprocess.show import draw_figure, print_tables

    manifest = read_manifest(folder)
    if figure:  # before the tables: their reader may stop early (`| head`)
        draw_figure(folder, manifest, figure)
    print_tables(folder, manifest)
    if figure:
        click.echo(f"figure: {figure}")


if __name__ == "__main__":
    main()
