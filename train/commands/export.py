"""The command `export`: the model of a run as a file for other programs.

In: a command line. Out: the file, and a line about its check.
"""

from __future__ import annotations

from pathlib import Path

import click

from slipform.pipelines.command import Command
from slipform.pipelines.errors import printable
from slipform.train.commands.options import FOLDER

__all__ = ["export"]


@click.command(cls=Command)
@click.argument("run", type=FOLDER)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["safetensors", "onnx", "torch-export"]),
    required=True,
    help=(
        "safetensors: the weights. onnx: a net for onnxruntime and others; it needs the extra"
        " export. torch-export: a net for torch.export.load."
    ),
)
@click.option(
    "--input",
    "what",
    type=click.Choice(["normalized", "pixels"]),
    default="normalized",
    show_default=True,
    help=(
        "What the file takes. normalized: float32 images of the net's size, and gives logits."
        " pixels: uint8 RGB images of any size, and gives probabilities."
    ),
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="The file to write, or a folder. [default: model.* in RUN]",
)
def export(run: Path, kind: str, what: str, out: Path | None) -> None:
    """Write the best epoch of RUN as a file for other programs, and compare it with the model.

    \b
    Example: slipform export runs/first --format onnx --input pixels --out flowers.onnx
    """
    from slipform.train.inference.classifier import Classifier

    path, difference = Classifier.load(run, "cpu").export_checked(kind, out, input=what)
    outputs = "logits" if what == "normalized" else "probabilities"
    click.echo(
        f"{printable(str(path))}: its {outputs} differ from the model's by at most {difference:.1e}"
    )
