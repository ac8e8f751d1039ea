"""The command `replay`: the batch that a step of a run saw.

In: a command line. Out: a sheet of images, a table, a file of tensors; or the first difference of
two runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from slipform.pipelines.errors import Command, ConfigError, printable
from slipform.train.commands.options import FOLDER, device_option, is_main

if TYPE_CHECKING:
    from slipform.train.replay.batches import StepBatches
    from slipform.train.replay.history import Place, Segment

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
@click.option("--data", type=FOLDER, help="The dataset folder. [default: that of the run]")
@click.option("--executor", default="", help="[default: that of the run on such a device]")
@click.option(
    "--images",
    default=64,
    show_default=True,
    help="Images on the sheet.",
    type=click.IntRange(1, 512),
)
@click.option("--tensors", is_flag=True, help="Also write the tensors of the batch.")
@click.option("--out", type=FOLDER, help="The folder. [default: figures/ in the run folder]")
@device_option
def replay(
    run: Path,
    step: int | None,
    epoch: int | None,
    sample: str | None,
    to_divergence: bool,
    other: Path | None,
    data: Path | None,
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
    if other is not None:
        if data is not None or out is not None or executor or tensors:
            raise ConfigError("--diff takes no --data, --executor, --tensors and --out")
        _print_difference(run, other)
        return
    from slipform.train.replay.batches import place_of_sample
    from slipform.train.replay.history import history, place_of_step

    segments, index, weights = history(run), None, None
    if data is not None:
        segments = [_with_data(segment, data) for segment in segments]
    if to_divergence:
        from slipform.train.replay.divergence import find_divergence
        from slipform.train.replay.weights import Weights, net_of

        config = segments[-1].config
        found = find_divergence(run, config, device)
        if not is_main():
            return  # one process draws
        click.echo(f"step {found.step}: {found.what}", err=True)
        place, model = place_of_step(segments, found.step), net_of(run, config)
        model.load_state_dict(found.weights)
        weights = Weights(model.eval(), "before the step")
    elif step is not None:
        place = place_of_step(segments, step)
    else:
        assert epoch is not None
        assert sample is not None
        index = _index(segments[-1], sample)
        place = place_of_sample(segments, epoch - 1, index)
    _show(run, place, index, weights, executor, images, tensors, out, device)


def _show(
    run: Path, place: Place, index: int | None, weights: object, executor: str, images: int,
    with_tensors: bool, out: Path | None, device: str,
) -> None:  # fmt: skip
    import torch
    from safetensors.torch import save_file

    from slipform.pipelines.files import replacing
    from slipform.train.figures.draw import FOLDER as INSIDE
    from slipform.train.machine.distributed import pick_device
    from slipform.train.replay.batches import open_rank, replayed, tensors
    from slipform.train.replay.sheet import draw_sheet, positions, to_uint8
    from slipform.train.replay.weights import Weights, answers, weights_near
    from slipform.train.run.folder import locked_if_run
    from slipform.train.run.starts import STARTS

    config, chosen = place.segment.config, pick_device(device, 0)
    made = replayed(place, chosen, executor)
    if weights is None:
        weights = weights_near(run, config, place.step)
    assert isinstance(weights, Weights)
    batch = made.together()
    said = answers(weights.model.to(chosen), config, batch)
    with open_rank(place.segment, torch.device("cpu"), 0, "host") as loader:
        manifest, names, augment = loader.manifest, loader.samples.names(), loader.sequence.augment
    assert not isinstance(augment.normalize, str)
    title = (
        f"step {place.step}, epoch {place.epoch + 1}: {len(batch)} images; loss"
        f" {float(said.losses.mean()):.4g} with the weights of {weights.source}"
    )
    folder, stem = out or run / INSIDE, f"replay-step-{place.step:08d}"
    at = positions(batch, images, index)
    with locked_if_run(folder, "replay-*"):
        shown = to_uint8(batch, *augment.normalize)
        written = [
            draw_sheet(
                folder, f"{stem}.png", title, shown, batch, at, manifest.classes, names, said
            )
        ]
        if with_tensors:
            written.append(folder / f"{stem}.safetensors")
            noted = {"run": str(run), "step": str(place.step), "epoch": str(place.epoch + 1)}
            with replacing(written[-1]) as temporary:
                save_file(tensors(made), temporary, {**noted, "executor": made.executor})
    click.echo(title)
    click.echo(_exactness(made))
    if not (run / STARTS).exists():
        click.echo("this run is of an older version: replayed as if it never had other settings")
    for path in written:
        click.echo(printable(str(path)))


def _exactness(made: StepBatches) -> str:
    start = made.place.segment.start
    if made.exact:
        return f"pixels: made as in the run, by executor {made.executor}"
    return (
        f"pixels: of executor {made.executor} on {made.batches[0][0].images.device.type}; the run"
        f" had {start.executor} on {start.device}. They differ by rounding"
    )


def _with_data(segment: Segment, data: Path) -> Segment:
    from dataclasses import replace

    return replace(segment, config=segment.config.replace("data.folder", str(data.resolve())))


def _index(segment: Segment, sample: str) -> int:
    """The index of a sample that is given by its index or its name."""
    if sample.isdecimal():
        return int(sample)
    from difflib import get_close_matches

    import torch

    from slipform.train.replay.batches import open_rank

    with open_rank(segment, torch.device("cpu"), 0, "host") as loader:
        names = loader.samples.names() or []
    found = [i for i, name in enumerate(names) if sample in (name, Path(name).name)]
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(names[i] for i in found[:5])
        raise ConfigError(f"{len(found)} samples are called {sample}: {listed}. Give the index.")
    near = get_close_matches(sample, names, 3)
    hint = f"Did you mean {', '.join(near)}?" if near else "Give its index."
    raise ConfigError(f"no training sample is called {sample}. {hint}")


def _print_difference(run: Path, other: Path) -> None:
    from slipform.train.replay.difference import first_difference

    found = first_difference(run, other)
    if found.step is None:
        click.echo(f"no difference: {found.text}")
    else:
        click.echo(f"step {found.step}: {found.what} differs: {found.text}")
    for name, (own, theirs) in found.settings.items():
        click.echo(f"  {name} = {printable(str(own))}, in the other run {printable(str(theirs))}")
