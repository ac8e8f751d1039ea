"""The command `replay`: the batch that a step of a run saw.

In: a command line. Out: a sheet of images, a table, a file of tensors; or the first difference of
two runs.
"""

from __future__ import annotations

import os
from pathlib import Path

import click

from slipform.pipelines.command import Command
from slipform.pipelines.errors import ConfigError, printable
from slipform.train.commands.options import DATASET, FOLDER, device_option, is_main

__all__ = ["replay"]


@click.command(cls=Command)
@click.argument("run", type=FOLDER)
@click.option("--step", type=int, help="The step, counted from 1 over the whole run.")
@click.option("--epoch", type=int, help="With --sample: the epoch, counted from 1.")
@click.option("--sample", help="With --epoch: the index or the name of a training sample.")
@click.option(
    "--to-divergence",
    is_flag=True,
    help="Find the first step whose loss or weights are not finite: train on from the newest"
    " checkpoint, in a temporary copy of the run.",
)
@click.option(
    "--diff", "other", type=FOLDER, metavar="OTHER", help="Find the first difference from a run."
)
@click.option("--data", type=DATASET, help="The dataset folder or URL. [default: that of the run]")
@click.option(
    "--executor",
    default="",
    help="dali, host, resident, stream or auto. [default: that of the run on such a device]",
)
@click.option(
    "--images",
    default=64,
    show_default=True,
    help="Images on the sheet.",
    type=click.IntRange(1, 512),
)
@click.option("--tensors", is_flag=True, help="Also write the tensors of the batch.")
@click.option("--out", type=FOLDER, help="The folder of the files. [default: figures/ in RUN]")
@device_option
def replay(
    run: Path,
    step: int | None,
    epoch: int | None,
    sample: str | None,
    to_divergence: bool,
    other: Path | None,
    data: Path | str | None,
    executor: str,
    images: int,
    tensors: bool,
    out: Path | None,
    device: str,
) -> None:
    """Show the batch that a step of RUN saw, pixel for pixel.

    The pixels are equal bit for bit with the executor of the run on such a machine. Writes a sheet
    of the images with labels, predictions and losses. The predictions are those of the newest
    checkpoint before the step, or of the best epoch.

    \b
    Examples: slipform replay runs/first --step 12
              slipform replay runs/first --epoch 3 --sample cat.jpg --tensors
              slipform replay runs/first --to-divergence
              slipform replay runs/first --diff runs/second
    """
    asked = [step is not None, epoch is not None or sample is not None, to_divergence, bool(other)]
    if sum(asked) != 1 or (epoch is None) != (sample is None):
        raise ConfigError(
            "give one of --step N, --epoch E with --sample I, --to-divergence, --diff OTHER"
        )
    if not to_divergence and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            "replay makes the batches of all processes in one: run it without torchrun, except for"
            " --to-divergence"
        )
    if other is not None:
        if out is not None or executor or tensors:
            raise ConfigError("--diff takes no --executor, --tensors and --out: remove them")
        _print_difference(run, other, data)
        return
    from slipform.pipelines.mirror.folder import local_folder, source_of
    from slipform.train.machine.distributed import pick_device
    from slipform.train.replay.history import history, place_of_step
    from slipform.train.replay.sample import find_sample
    from slipform.train.replay.show import show_step

    data = None if data is None else local_folder(data)
    segments, index, weights = history(run, data), None, None
    if to_divergence:
        from slipform.train.replay.divergence import find_divergence
        from slipform.train.replay.weights import Weights, net_of
        from slipform.train.run.folder import run_config

        config = run_config(run)
        if data is not None:
            config = config.replace("data.folder", source_of(data))
        found = find_divergence(run, config, device)
        if not is_main():
            return  # one process draws
        click.echo(f"step {found.step}: {found.what}", err=True)
        place, model = place_of_step(segments, found.step), net_of(run, config)
        model.load_state_dict(found.weights)
        weights = Weights(model.eval(), "the state before the step")
    elif step is not None:
        place = place_of_step(segments, step)
    else:
        assert epoch is not None
        assert sample is not None
        place, index = find_sample(segments, epoch - 1, sample)
    shown = show_step(
        run, segments, place, pick_device(device, 0), index=index, weights=weights,
        executor=executor, images=images, with_tensors=tensors, out=out,
    )  # fmt: skip
    for line in [*shown.lines, *map(str, shown.files)]:
        click.echo(printable(line))


def _print_difference(run: Path, other: Path, data: Path | str | None) -> None:
    from slipform.pipelines.mirror.folder import local_folder
    from slipform.train.replay.difference import first_difference

    found = first_difference(run, other, None if data is None else local_folder(data))
    if found.step is None:
        click.echo(f"no difference: {found.text}")
    else:
        verb = "differ" if found.what.endswith("s") else "differs"
        click.echo(f"step {found.step}: {found.what} {verb}: {found.text}")
    for name, (own, theirs) in found.settings.items():
        click.echo(f"  {name} = {printable(str(own))}, in the other run {printable(str(theirs))}")
