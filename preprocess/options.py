"""Options that each dataset of `prep` has: how samples are stored, and who writes which shards.

In: nothing; values of the options. Out: the options for click; the chosen shard.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from slipform.preprocess.shard_record import Shard

__all__ = ["ENGINES", "chosen_shard", "encoding_options", "shard_options"]

ENGINES = ("local", "ray")  # files of the folder engines; the first one is the default


class _OnBad(click.Choice[str]):
    """ "error" or "skip". "fail", the former name of "error", is accepted, too."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert("error" if value == "fail" else value, param, ctx)


def encoding_options() -> tuple[click.Option, ...]:
    """The options about how samples are stored."""
    return (
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
    )


def shard_options() -> tuple[click.Option, ...]:
    """The options of each dataset."""
    return (
        click.Option(
            ["--shard"],
            metavar="K/N",
            default="",
            help="Write the K-th of N shards to a folder that all share; see `prep merge`.",
        ),
        click.Option(
            ["--shards"],
            type=click.IntRange(0, 99_999),
            default=0,
            metavar="N",
            help=(
                "Write all of N shards, and merge them. Shards that are finished are not written"
                " again. 0, the default: no shards."
            ),
        ),
        click.Option(
            ["--engine"],
            type=click.Choice(ENGINES),
            help=(
                "What writes the shards. local, the default: this process, one after another; ray:"
                " tasks of Ray, on this machine or on the cluster of RAY_ADDRESS, each with"
                " --threads threads (0: one)."
            ),
        ),
    )


def chosen_shard(shard: str, shards: int, engine: str | None) -> Shard | None:
    """Check the options.

    Args:
        shard: The value of --shard. "": not given.
        shards: The value of --shards. 0: not given.
        engine: The value of --engine. None: not given.

    Returns:
        The one shard that is written. None: all of them, or a dataset without shards.

    Raises:
        click.UsageError: Options exclude each other.
        ConfigError: There is no such shard.
    """
    if shard and shards:
        raise click.UsageError("give --shard K/N for one shard, or --shards N for all; not both.")
    if engine and not shards:
        raise click.UsageError(f"--engine {engine} writes shards: give their number, --shards N.")
    if not shard:
        return None
    from slipform.preprocess.shard_record import Shard

    return Shard.parse(shard)
