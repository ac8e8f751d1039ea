"""The command `figures`: trained nets beside each other and beside an untrained one.

In: a command line. Out: two PNG files.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from slipform.pipelines.command import Command
from slipform.pipelines.errors import ConfigError, SlipformError, printable
from slipform.train.commands.options import FOLDER

if TYPE_CHECKING:
    from torch import Tensor

    from slipform.train.inference.classifier import Classifier

__all__ = ["figures"]


@click.command(cls=Command)
@click.argument("runs", metavar="RUN [OTHER]...", nargs=-1, required=True, type=FOLDER)
@click.option(
    "--image",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The image for the outputs of the first layer. [default: the first one of test, or of val"
    " without test]",
)
@click.option("--layer", default="", help="The layer of the histograms. [default: the first one]")
@click.option("--no-untrained", is_flag=True, help="Leave out the untrained net.")
@click.option("--out", type=FOLDER, help="The folder of the figures. [default: figures/ in RUN]")
def figures(
    runs: tuple[Path, ...], image: Path | None, layer: str, no_untrained: bool, out: Path | None
) -> None:
    """Compare the nets of runs, and an untrained net with the settings of RUN.

    Writes compared_first_layer.png (an image, kernels, outputs) and compared_histograms.png
    (weights, biases and gradients of a layer).

    \b
    Example: slipform figures runs/sgd runs/asgd --image photo.jpg --out figures
    """
    from slipform.train.figures.compare import compare_first_layers, compare_histograms
    from slipform.train.figures.draw import FOLDER as INSIDE
    from slipform.train.inference.classifier import Classifier
    from slipform.train.inference.data import first_image, first_split
    from slipform.train.inference.untrained import untrained
    from slipform.train.run.folder import locked_if_run

    folders = dict(zip(_names(runs), runs, strict=True))
    classifiers = {name: Classifier.load(run, "cpu") for name, run in folders.items()}
    first = next(iter(classifiers.values()))
    sizes = {one.spec.image_size for one in classifiers.values()}
    if len(sizes) > 1:
        raise ConfigError(
            f"the runs have images of {sorted(sizes)} px: give runs of the same image_size"
        )
    nets = {name: one.model for name, one in classifiers.items()}
    if not no_untrained:
        nets["untrained"] = untrained(first.config, first.manifest.num_classes)
    if image is None:
        split = first_split(first.settings_for())
        found = None
        if split is not None:
            with first.open_split(split=split) as loader:
                found = first_image(loader)
        if found is None:
            raise ConfigError(
                f"neither test nor val of {first.folder} has images: give --image FILE"
            )
        pixels = found
    else:
        pixels = _pixels(image, first)
    folder = out or runs[0] / INSIDE
    with locked_if_run(folder, "*.png"):
        drawn = [
            compare_first_layers(folder, nets, pixels),
            compare_histograms(folder, nets, folders, layer),
        ]
    for path in drawn:
        if path is not None:
            click.echo(printable(str(path)))


def _pixels(image: Path, classifier: Classifier) -> Tensor:
    """An image file as the net gets it: normalized, float32 [1, 3, S, S]."""
    import torch

    from slipform.train.inference.predict import read_batches

    options = classifier.manifest.options
    (part,) = read_batches([image], classifier.spec, torch.float32, classifier.device, options)
    for _, error in part.errors:
        if error:
            raise SlipformError(error)
    assert part.tensor is not None
    return part.tensor


def _names(runs: tuple[Path, ...]) -> list[str]:
    """The shortest ends of paths that tell the runs apart."""
    paths = [run.resolve() for run in runs]
    if len(set(paths)) < len(paths):
        raise ConfigError("a run is given twice")
    for depth in range(1, max(len(path.parts) for path in paths)):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]
