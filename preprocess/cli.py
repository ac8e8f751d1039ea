"""`prep`: one subcommand per dataset, and `merge`, `verify` and `show` for dataset folders.

In: the command line. Out: a dataset folder, a report, an exit status. Modules that are slow to
import are imported when a command runs.
"""

from __future__ import annotations

from pathlib import Path

import click

from slipform.pipelines.command import Group
from slipform.pipelines.errors import DatasetError, printable
from slipform.pipelines.number_text import number_of
from slipform.pipelines.remote.client import is_remote
from slipform.preprocess.dataset_command import FOLDER, dataset_command
from slipform.preprocess.registry import discover

__all__ = ["main", "merge", "show", "verify"]


class _DatasetGroup(Group):
    """Finds the subcommands of the datasets only when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*discover(), *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if command := super().get_command(ctx, cmd_name):
            return command
        dataset = discover().get(cmd_name)
        return dataset_command(dataset) if dataset else None


@click.group(cls=_DatasetGroup)
def main() -> None:
    """Write an image dataset once into .beton files, checked and whole, for `train`.

    \b
    Examples:
      prep images --source photos --out data/photos --dry-run
      prep images --source photos --out data/photos
      prep cifar10 --download raw --out data/cifar10
      prep verify data/photos
    """


@main.command()
@click.argument("folder", type=FOLDER)
def merge(folder: Path | str) -> None:
    """Make a dataset of all shards of a folder.

    Checks the shards first. The images are not written again. At a URL, the sizes and tables of the
    shards are checked, and no image is read.

    \b
    Example: prep merge s3://bucket/photos
    """
    from slipform.preprocess.account import closing_words
    from slipform.preprocess.merge import merge as merged
    from slipform.preprocess.places import place_of

    place = place_of(folder)
    click.echo("\n".join(closing_words(merged(place), place)))


@main.command()
@click.argument("folder", type=FOLDER)
@click.option(
    "--threads",
    "--workers",
    type=click.IntRange(0, 1024),
    default=0,
    show_default=True,
    help="Number of threads; 0: one per core.",
)
@click.option(
    "--duplicates",
    type=click.Choice(["near", "exact", "none"]),
    default="near",
    show_default=True,
    help="Report images that are in two splits. near: also almost equal ones; exact: equal bytes"
    " only; none: no search.",
)
@click.option(
    "--csv",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write all duplicates to this CSV file.",
)
def verify(folder: Path | str, threads: int, duplicates: str, csv: Path | None) -> None:
    """Check every byte of a dataset.

    Reads headers, tables, checksums and the content of every image. The exit code is 1 if there are
    faults. Images of val and test that are also in another split are reported, and are no fault. At
    a URL, all betons are read one after another, and duplicates are not searched.

    \b
    Examples:
      prep verify data/cifar10 --csv duplicates.csv
      prep verify s3://bucket/photos
    """
    from slipform.preprocess.duplicate_report import duplicate_lines, write_csv
    from slipform.preprocess.duplicates import find_duplicates
    from slipform.preprocess.places import place_of
    from slipform.preprocess.progress import progress_bar
    from slipform.preprocess.verify import find_faults

    if csv is not None and duplicates == "none":
        raise click.UsageError("--csv has the duplicates: give --duplicates near or exact")
    if csv is not None and is_remote(folder):
        raise click.UsageError("--csv needs a local copy of the dataset: it compares all images")
    place = place_of(folder)
    manifest = place.manifest()
    total = sum(info.num_samples for info in manifest.splits.values())
    faults = 0
    with progress_bar(total) as progress:
        for fault in find_faults(place, manifest, threads, progress):
            click.echo(fault)
            faults += 1
    if faults:
        raise DatasetError(f"{place}: {number_of(faults, 'fault')}. Run prep again.")
    click.echo(f"{printable(str(place))}: {number_of(total, 'sample')}, no fault")
    if not isinstance(folder, Path):
        click.echo("duplicates were not searched: this compares all images, in a local copy")
        return
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
@click.argument("folder", type=FOLDER)
@click.option(
    "--figure",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a grid of samples, and the class distribution of all splits and of each.",
)
@click.option("--no-samples", is_flag=True, help="With --figure: the class distribution only.")
def show(folder: Path | str, figure: Path | None, no_samples: bool) -> None:
    """Show what a dataset holds.

    Prints splits, classes, sizes, bytes, and how the images are stored.

    \b
    Example: prep show data/cifar10 --figure cifar10.png
    """
    from slipform.preprocess.places import place_of
    from slipform.preprocess.show import draw_figure, print_tables

    if no_samples and figure is None:
        raise click.UsageError("--no-samples needs --figure.")
    manifest = place_of(folder).manifest()
    if figure:  # before the tables: their reader may stop early (`| head`)
        if not isinstance(folder, Path):
            raise click.UsageError("--figure needs a local copy of the dataset: it shows images")
        draw_figure(folder, manifest, figure, samples=not no_samples)
    print_tables(folder, manifest)
    if figure:
        click.echo(f"figure: {printable(str(figure))}")


if __name__ == "__main__":
    main()
