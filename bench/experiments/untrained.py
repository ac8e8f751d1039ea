"""What needs no training: parameters of every net, and the first loss where a report prints one.

In: the recipes of the studies; for the losses a folder with datasets. Out: untrained.csv, a line
for each run: parameters, trainable parameters, the loss of the first batch with the initial
weights, and the excess kurtosis of the first layer's initial weights (uniform: -1.2, normal: 0).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from slipform.bench.experiments.runs import Outcome, studies
from slipform.bench.experiments.training import find_data
from slipform.pipelines.files import open_regular, write_whole
from slipform.train.config.recipe import Recipe, SweepRun
from slipform.train.config.resolve import resolve

__all__ = ["UNTRAINED", "measure_untrained", "read_untrained", "untrained_section"]

UNTRAINED = "untrained.csv"
_CLASSES = {"caltech101": 101, "cifar100": 100, "cifar10": 10, "mnist": 10}
_COUNTS = ("parameters", "trainable_parameters")
_COLUMNS = (*_COUNTS, "first_loss", "first_layer_kurtosis")
# (study, run) -> column -> value
Untrained = Mapping[tuple[str, str], Mapping[str, float]]


def measure_untrained(folder: Path, data: Path, say: Callable[[str], None]) -> Path:
    """Count the parameters of every run, measure the first losses, and write untrained.csv.

    Args:
        folder: The folder of the page.
        data: A folder with dataset folders. A loss whose dataset it does not have is left out.
        say: Called with a message for each loss.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["study", "run", *_COLUMNS])
    for recipe in studies():
        for run in recipe.runs:
            found: dict[str, float] = {**_count(recipe, run)}
            if "first_loss" in run.reported:
                own = find_data(recipe, data) if data.is_dir() else None
                if own is None:
                    say(f"{recipe.study} {run.name}: no dataset in {data} for its first loss")
                else:
                    found |= _first_step(recipe, run, own)
                    say(f"{recipe.study} {run.name}: first loss {found['first_loss']:.4f}")
            cells = [f"{found[name]:.9g}" if name in found else "" for name in _COLUMNS]
            writer.writerow([recipe.study, run.name, *cells])
    write_whole(folder / UNTRAINED, text.getvalue())
    return folder / UNTRAINED


def read_untrained(folder: Path) -> dict[tuple[str, str], dict[str, float]]:
    """Read untrained.csv; empty if there is none.

    Args:
        folder: The folder of the page.
    """
    path = folder / UNTRAINED
    if not path.is_file():
        return {}
    with open_regular(path) as file:
        rows = csv.DictReader(io.StringIO(file.read().decode("utf-8")))
    return {
        (row["study"], row["run"]): {name: float(row[name]) for name in _COLUMNS if row[name]}
        for row in rows
    }


def untrained_section(found: Sequence[Outcome], values: Untrained) -> list[str]:
    """The lines of the section: reported and own figures that need no training.

    Args:
        found: The outcomes of all runs.
        values: What `read_untrained` returned.
    """
    lines = []
    for one in found:
        own = values.get((one.study, one.run.name), {})
        for column in ("trainable_parameters", "first_loss"):
            if column in one.run.reported and column in own:
                reported, measured = float(one.run.reported[column]), own[column]
                form = ",.0f" if column in _COUNTS else ".4g"
                lines.append(
                    f"| {one.study} {one.run.name} | {column.replace('_', ' ')} |"
                    f" {reported:{form}} | {measured:{form}} |"
                )
    if not lines:
        return []
    counted = sum("parameters" in own for own in values.values())
    return [
        "## Without training",
        "",
        f"[{UNTRAINED}]({UNTRAINED}) has the parameters of {counted} runs. The report gives:",
        "",
        "| run | figure | reported | ours |",
        "| --- | --- | --- | --- |",
        *lines,
        "",
    ]


def _count(recipe: Recipe, run: SweepRun) -> dict[str, float]:
    import torch

    from slipform.models import freeze
    from slipform.models.registry import build

    config = resolve(recipe, run=run)
    with torch.device("meta"):
        net = build(
            replace(config.model, weights="none"),
            num_classes=_CLASSES[recipe.prep["dataset"]],
            image_size=config.augment.image_size,
        )
    counts = freeze.count(net)
    return {"parameters": counts.total, "trainable_parameters": counts.trainable}


def _first_step(recipe: Recipe, run: SweepRun, data: Path) -> dict[str, float]:
    """The loss of the first batch, and the kurtosis of the first layer before it."""
    import torch

    from slipform.pipelines.manifest import read_manifest
    from slipform.train.machine.distributed import Process
    from slipform.train.step.build import build_state
    from slipform.train.step.data import open_loader
    from slipform.train.step.step import set_train_mode, train_step

    sets = ["train.precision=fp32", "train.channels_last=false", "data.executor=host"]
    config = resolve(recipe, [*sets, f'data.folder="{data}"'], run=run)
    process = Process(torch.device("cpu"))
    state = build_state(config, num_classes=read_manifest(data).num_classes, process=process)
    first = next(iter(state.model.parameters())).detach().double().flatten()
    centered = first - first.mean()
    kurtosis = (centered**4).mean() / (centered**2).mean() ** 2 - 3
    set_train_mode(state)
    with open_loader(config, "train", process, training=True) as loader:
        loss = train_step(state, iter(loader)).loss
    return {"first_loss": float(loss), "first_layer_kurtosis": float(kurtosis)}
