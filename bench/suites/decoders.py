"""Compare the decoders of JPEGs on CPU cores: processor time for an image.

In: a dataset folder with JPEGs. Out: a row for each decoder: nvImageCodec, which Slipform uses, a
DALI pipeline, OpenCV, Pillow, torchcodec.
"""

from __future__ import annotations

from pathlib import Path

import click

from slipform.bench.options import data_argument, out_option, quick_option
from slipform.bench.result.layout import Layout
from slipform.bench.result.result import Row
from slipform.bench.suites import finish
from slipform.pipelines.command import Command
from slipform.pipelines.errors import ConfigError

__all__ = ["LAYOUT", "command"]

LAYOUT = Layout(
    title="Decoding JPEGs on CPU cores",
    about="Whole images to RGB, one thread for each decoder, in turns. The time is that of all"
    " threads of the process.",
    rank=8,
    columns=("decode_seconds", "decode_ratio"),
    group=("data",),
)


@click.command(cls=Command)
@data_argument
@quick_option
@out_option
def command(data: Path, quick: bool, out: Path | None) -> None:
    """Compare the decoders of JPEGs, with the images of the dataset folder DATA.

    \b
    Example: bench decoders data/caltech101
    """
    from slipform.bench.race.decoding import compare
    from slipform.bench.race.worker import isolated
    from slipform.bench.result.environment import stamp
    from slipform.bench.work import stored_as
    from slipform.pipelines.manifest import read_manifest

    dataset, environment = read_manifest(data).dataset, stamp()
    if stored_as(data) != "jpeg":
        raise ConfigError(
            f"{data} holds raw pixels: give a dataset with JPEGs, as from prep images"
        )
    found = isolated(compare, str(data), 3 if quick else 9)
    rows = [
        Row(suite="decoders", case={"data": dataset, "decoder": name}, figures=figures)
        for name, figures in found.items()
    ]
    finish("decoders", rows, out, environment)
