"""The command `models`: the structure of a net.

In: a command line. Out: a table of layers.
"""

from __future__ import annotations

import click

from slipform.pipelines.command import Command, Group
from slipform.pipelines.number_text import number_text

__all__ = ["models", "show"]


@click.group(cls=Group)
def models() -> None:
    """Show nets. Their names: slipform list nets."""


@models.command(cls=Command)
@click.argument("name")
@click.option(
    "--image-size",
    default=224,
    show_default=True,
    type=click.IntRange(1),
    help="Side of the images, in pixels.",
)
@click.option(
    "--classes", default=1000, show_default=True, type=click.IntRange(1), help="Number of classes."
)
@click.option(
    "--set",
    "sets",
    multiple=True,
    help="A setting model.KEY=VALUE, such as model.options.width=64 or model.freeze=features. Can"
    " be repeated.",
)
def show(name: str, image_size: int, classes: int, sets: tuple[str, ...]) -> None:
    """Show the layers of the net NAME: output shape, parameters, operations for one image.

    An operation is a multiplication or an addition in a convolution, a linear layer or attention.

    \b
    Example: slipform models show resnet18 --image-size 64 --classes 10
    """
    import torch

    from slipform.models.registry import build
    from slipform.models.structure import layers
    from slipform.train.config.resolve import resolve

    config = resolve(None, [f"model.name={name}", *sets, "model.weights=none"]).model
    with torch.device("meta"):
        model = build(config, num_classes=classes, image_size=image_size)
    found = layers(model, image_size)
    rows = [("layer", "kind", "output", "parameters", "operations")]
    for layer in found[:-1]:
        frozen = ", frozen" if layer.parameters and not layer.trainable else ""
        times = f" ({layer.calls} calls)" if layer.calls > 1 else ""
        output = " x ".join(str(side) for side in layer.output)
        flops = f"{layer.flops:,}" if layer.flops else ""
        parameters = f"{layer.parameters:,}" if layer.parameters else ""
        rows.append((layer.name, layer.kind + times + frozen, output, parameters, flops))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for row in rows:
        texts = [cell.ljust(width) for cell, width in zip(row[:3], widths, strict=False)]
        texts += [cell.rjust(width) for cell, width in zip(row[3:], widths[3:], strict=True)]
        click.echo("  ".join(texts).rstrip())
    whole = found[-1]
    click.echo(
        f"\n{whole.parameters:,} parameters, {whole.trainable:,} trainable;"
        f" {number_text(whole.flops / 1e9, 3)} billion operations for one image of {image_size} px"
    )
