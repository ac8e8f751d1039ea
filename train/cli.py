"""The commands `train`, `validate`, `predict` and `export`.

In: command lines. Out: run folders, tables, files. Heavy imports happen inside the commands, so
that --help is quick. Several processes: torchrun --nproc-per-node N -m slipform.train.cli DATA ...
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from slipform.pipelines.errors import Command

_FOLDER = click.Path(file_okay=False, path_type=Path)
_device = click.option(
    "--device", default="auto", help="auto, cpu, cuda or cuda:N.", show_default=True
)


@click.command(cls=Command)
@click.argument("data", type=_FOLDER, required=False)
@click.option(
    "--recipe",
    metavar="NAME|FILE",
    help=(
        "A recipe's name, such as shapes/demo, or a TOML file; NAME:RUN is one run of a sweep, with"
        " --all NAME:RUN,RUN some. Default: fits the dataset."
    ),
)
@click.option(
    "--set",
    "sets",
    metavar="A.B=C",
    multiple=True,
    help="Change one setting, such as train.epochs=1. May be repeated.",
)
@click.option("--out", type=_FOLDER, help="The run folder. Default: a new one below runs/.")
@click.option("--resume", type=_FOLDER, metavar="RUN", help="Go on with the run in this folder.")
@click.option("--overwrite", is_flag=True, help="Replace the run that is in the folder already.")
@click.option(
    "--all",
    "every",
    is_flag=True,
    help="All runs of a sweep, and a table of them. Again: goes on with what is left.",
)
@click.option(
    "--jobs", type=click.IntRange(1), metavar="N", help="With --all: runs at once. Default: 1."
)
@click.option(
    "--seeds",
    type=click.IntRange(1),
    metavar="K",
    help="With --all: K seeds of every run. Default: 1.",
)
@_device
@click.option("--quiet", is_flag=True, help="Print the result only.")
def train(
    data: Path | None,
    recipe: str | None,
    sets: tuple[str, ...],
    out: Path | None,
    resume: Path | None,
    overwrite: bool,
    every: bool,
    jobs: int | None,
    seeds: int | None,
    device: str,
    quiet: bool,
) -> None:
    """Train on the dataset folder DATA, which prep has written.

    \b
    train data/caltech101 --recipe caltech101/alexnet-scratch --out runs/first
    train --resume runs/first
    train data/mnist --recipe mnist/convolutional --all --out runs/mnist
    """
    from slipform.pipelines.manifest import read_manifest
    from slipform.train.config.resolve import load_recipe, load_runs, resolve
    from slipform.train.run.folder import free_name, run_config

    if every:
        if data is None or recipe is None or resume is not None:
            raise click.UsageError(
                "--all takes DATA and --recipe, and no --resume: the same command goes on with what"
                " is left."
            )
        _sweep(data, recipe, sets, out, overwrite, jobs or 1, seeds or 1, device, quiet)
        return
    if jobs or seeds:
        raise click.UsageError("--jobs and --seeds belong to --all.")
    if resume is not None:
        if recipe or out or overwrite:
            raise click.UsageError(
                "--resume goes on with what is in the folder: leave --recipe, --out and --overwrite"
                " out."
            )
        data = data or Path(run_config(resume).data.folder)
        config = resolve(load_recipe(resume / "config.toml"), sets)
        out = resume
    elif data is None:
        raise click.UsageError(
            "Missing argument 'DATA': a folder that prep has written (or give --resume RUN)."
        )
    else:
        manifest = read_manifest(data)
        loaded, runs = load_runs(recipe) if recipe else (None, ())
        if loaded and loaded.runs and len(runs) != 1:
            names = ", ".join(run.name for run in loaded.runs)
            raise click.UsageError(
                f"{recipe} is a sweep: give --all, or one of its runs as --recipe {recipe}:RUN."
                f" Runs: {names}."
            )
        config = resolve(loaded, sets, manifest, *runs)
        out = out or free_name(
            Path("runs"), _run_name(recipe) if recipe else f"{manifest.dataset}-{config.model.name}"
        )
        from slipform.train.sweep.sweep import data_differences

        if loaded and (different := data_differences(loaded, manifest)):
            click.echo(different, err=True)

    from slipform.train.machine.interrupt import end_with_sweep
    from slipform.train.run.loop import fit

    end_with_sweep()
    summary = fit(
        config,
        data,
        out,
        device=device,
        resume=resume is not None,
        overwrite=overwrite,
        quiet=quiet,
    )
    if not _is_main():
        return
    if summary["test_accuracy"] is not None:
        click.echo(f"test accuracy {summary['test_accuracy']:.4f} (epoch {summary['best_epoch']})")
    waiting = f"{summary['data_wait_share']:.1%} of the time waiting for data"
    click.echo(
        f"{summary['images_per_second']:.0f} images/s in training, {waiting},"
        f" {summary['seconds']:.0f} s in all"
    )
    click.echo(f"curves: {out / 'figures' / 'curves.png'}")


def _sweep(
    data: Path,
    recipe: str,
    sets: tuple[str, ...],
    out: Path | None,
    overwrite: bool,
    num_at_once: int,
    num_seeds: int,
    device: str,
    quiet: bool,
) -> None:
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise click.UsageError(
            "--all starts processes of its own: start it without torchrun, with --jobs N."
        )
    from slipform.train.config.resolve import load_runs
    from slipform.train.sweep.sweep import run_sweep

    loaded, only = load_runs(recipe)
    table = run_sweep(
        loaded,
        data,
        out or Path("runs") / _run_name(loaded.name),
        sets,
        only=only,
        num_at_once=num_at_once,
        num_seeds=num_seeds,
        device=device,
        overwrite=overwrite,
        quiet=quiet,
    )
    click.echo(table.read_text(encoding="utf-8"))
    click.echo(f"table: {table}")


def _run_name(recipe: str) -> str:
    return recipe.removesuffix(".toml").strip("/").replace("/", "-").replace(":", "-")


def _is_main() -> bool:
    """Whether this process prints; torchrun numbers them."""
    return os.environ.get("RANK", "0") == "0"


@click.command(cls=Command)
@click.argument("run", type=_FOLDER)
@click.argument("data", type=_FOLDER, required=False)
@click.option("--split", default="test", show_default=True, help="train, val or test.")
@click.option(
    "--figures",
    type=_FOLDER,
    metavar="DIR",
    help="Draw curves, per-class accuracy, confusion and first layer there.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@_device
def validate(
    run: Path, data: Path | None, split: str, figures: Path | None, as_json: bool, device: str
) -> None:
    """How good the best epoch of RUN is on a split of its own dataset, or of DATA."""
    from slipform.train.inference.classifier import load_trained, validate_trained

    trained = load_trained(run, device)
    result, loader = validate_trained(trained, data, split)
    with loader:
        if figures is not None:
            from slipform.train.figures import result as plots

            plots.curves(run, figures)
            plots.all_of_result(
                figures,
                trained.state.evaluated,
                next(iter(loader)).images[:1],
                result,
                trained.classes,
            )
    values: dict[str, Any] = {
        "split": split,
        "images": result.num_images,
        "top1": result.top1,
        "top5": result.top5,
        "loss": result.loss,
    }
    per_class = dict(zip(trained.classes, result.per_class, strict=True))
    if as_json:
        clean = {
            name: None if share != share else share for name, share in per_class.items()
        }  # nan is not equal to itself
        click.echo(json.dumps({**values, "per_class": clean}, ensure_ascii=False))
        return
    width = max(map(len, per_class))
    for name, share in per_class.items():
        click.echo(
            f"{name:<{width}}  {share:6.4f}" if share == share else f"{name:<{width}}  no images"
        )
    click.echo(
        f"{split}: top-1 {result.top1:.4f}, top-5 {result.top5:.4f}, loss {result.loss:.4f},"
        f" {result.num_images} images"
    )


@click.command(cls=Command)
@click.argument("run", type=_FOLDER)
@click.argument(
    "paths",
    type=click.Path(exists=True, path_type=Path),
    nargs=-1,
    required=True,
    metavar="IMAGE|FOLDER...",
)
@click.option(
    "--top",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="Classes shown for each image.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@_device
def predict(run: Path, paths: tuple[Path, ...], top: int, as_json: bool, device: str) -> None:
    """What the best epoch of RUN sees in images of any format; folders are searched for images."""
    from slipform.pipelines.errors import SlipformError
    from slipform.train.inference.classifier import load_trained
    from slipform.train.inference.predict import find_images, predict_images

    trained = load_trained(run, device)
    files = find_images(paths)
    failed = 0
    for prediction in predict_images(trained, files, top):
        if prediction.error:
            failed += 1
            click.echo(f"{prediction.file}: {prediction.error}", err=True)
        elif as_json:
            classes = [{"class": name, "probability": share} for name, share in prediction.classes]
            click.echo(
                json.dumps({"file": str(prediction.file), "classes": classes}, ensure_ascii=False)
            )
        else:
            click.echo(
                f"{prediction.file}  "
                + "  ".join(f"{name} {share:.3f}" for name, share in prediction.classes)
            )
    if failed:
        raise SlipformError(f"{failed} of {len(files)} files could not be read as images")


@click.command(cls=Command)
@click.argument("run", type=_FOLDER)
@click.option(
    "--format", "kind", type=click.Choice(["safetensors", "onnx", "torch-export"]), required=True
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write. Default: model.* in RUN.",
)
def export(run: Path, kind: str, out: Path | None) -> None:
    """Write the best epoch of RUN as a file for other programs, checked against the model's own
    output."""
    from slipform.train.inference.classifier import load_trained
    from slipform.train.inference.export import export_model

    path, difference = export_model(load_trained(run, "cpu"), kind, out or run)
    click.echo(f"{path}: its logits differ from the model's by at most {difference:.1e}")


if __name__ == "__main__":
    train()
