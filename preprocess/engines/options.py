"""--shard, --shards and --engine of `prep`: who writes which shards.

In: the values of the options. Out: the options for click, and the chosen shard.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from slipform.preprocess.shard_record import Shard

__all__ = ["ENGINES", "chosen_shard", "shard_options"]

ENGINES = ("local", "ray")  # the first one is the default


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
            show_default=True,
            metavar="N",
            help=(
                "Write all of N shards, and merge them. Shards that are finished are not written"
                " again. 0: no shards."
            ),
        ),
        click.Option(
            ["--engine"],
            type=click.Choice(ENGINES),
            help=(
                "What writes the shards of --shards. local: this process, one after another; ray:"
                " tasks of Ray, on this machine or on the cluster of RAY_ADDRESS, each with"
                " --threads threads (0: one). [default: local]"
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
