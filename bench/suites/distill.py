"""Measure what a teacher costs: no teacher, its stored answers, or its answer in every step.

In: a recipe, a dataset folder, the run folder of a teacher. Out: a row for each of the three, with
training images/s, and the bytes of a stored answer. Each trains the same student; the three take
turns.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slipform.bench.options import device_name, device_option, out_option
from slipform.bench.result.layout import Layout
from slipform.bench.result.result import Estimate, Row
from slipform.bench.suites import finish, say
from slipform.pipelines.command import Command

if TYPE_CHECKING:
    from slipform.pipelines.batch import Batch
    from slipform.pipelines.loader import Loader
    from slipform.train.config.run_config import RunConfig

__all__ = ["LAYOUT", "command", "measure"]

LAYOUT = Layout(
    title="Training with a teacher",
    about="The same student, without a teacher, with its stored answers, and with its answer in"
    " every step.",
    rank=6,
    columns=("images_per_second", "without_teacher_ratio", "answer_bytes"),
    group=("data",),
)
_WAYS = ("no teacher", "stored answers", "teacher in every step")


@click.command(cls=Command)
@click.argument("recipe")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="The dataset folder.")
@click.option("--teacher", required=True, type=click.Path(path_type=Path), help="Its run folder.")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="A setting of the student.")
@click.option("--rounds", type=click.IntRange(2), default=7, show_default=True, help="Rounds.")
@click.option(
    "--steps", type=click.IntRange(1), default=50, show_default=True, help="Steps in a round."
)
@device_option
@out_option
def command(
    recipe: str,
    data: Path,
    teacher: Path,
    sets: tuple[str, ...],
    rounds: int,
    steps: int,
    device: str,
    out: Path | None,
) -> None:
    """Measure the cost of a teacher (train --teacher) in the training of RECIPE.

    \b
    Example: bench distill cifar10/fast --data data/cifar10 --teacher runs/large
    """
    from slipform.bench.result.environment import stamp
    from slipform.pipelines.manifest import read_manifest
    from slipform.train.config.recipe import load_one
    from slipform.train.config.resolve import resolve

    environment, manifest = stamp(), read_manifest(data)
    loaded, run = load_one(recipe)
    config = resolve(loaded, sets, manifest, run)
    say(f"{recipe}: {rounds} rounds of {steps} steps for each of {', '.join(_WAYS)}")
    found = measure(config, data, teacher, device_name(device), rounds, steps)
    rows = [
        Row(suite="distill", case={"data": manifest.dataset, "way": way}, figures=figures)
        for way, figures in found.items()
    ]
    finish("distill", rows, out, environment)


def measure(
    config: RunConfig, data: Path, teacher: Path, device: str, rounds: int, steps: int
) -> dict[str, dict[str, Estimate]]:
    """Measure the three ways, in this process.

    Args:
        config: The settings of the student.
        data: The dataset folder.
        teacher: The run folder of the teacher. The answers are stored in a temporary folder.
        device: "cpu" or "cuda".
        rounds: Rounds in which the three ways take turns, after one that compiles.
        steps: Steps of each way in a round.

    Returns:
        Way -> images_per_second, the ratio to no teacher in the same round, and answer_bytes, the
        stored bytes for each image and epoch.
    """

    from slipform.bench.race.measure import estimate
    from slipform.pipelines.manifest import read_manifest
    from slipform.train.machine.device import set_up
    from slipform.train.machine.distributed import Process, pick_device
    from slipform.train.run.auto import without_auto
    from slipform.train.run.teacher import Teacher, with_teacher
    from slipform.train.run.teacher_net import TeacherNet
    from slipform.train.run.training_data import first_images, open_training_data
    from slipform.train.step.build import build_state
    from slipform.train.step.step import set_train_mode, train_step

    process, manifest = Process(pick_device(device, 0)), read_manifest(data)
    config = config.replace("data.folder", str(data.resolve()))
    set_up(config.train, process.device)
    config, _ = without_auto(config, manifest, process, [])
    with ExitStack() as held:
        folder = held.enter_context(tempfile.TemporaryDirectory())
        given = {**config.distill.model_dump(), "teacher": str(teacher), "answers": folder}
        config = with_teacher(config.replace("distill", given), manifest, process)
        loader = held.enter_context(open_training_data(config, None, process))
        state = build_state(
            config, num_classes=manifest.num_classes, process=process,
            first_images=lambda: first_images(loader),
        )  # fmt: skip
        set_train_mode(state)
        stored = Teacher(config, process, say)
        net = TeacherNet(teacher, loader)
        say("the teacher answers for the first epoch")
        table = stored.begin_epoch(loader, None, lambda _: lambda: None, lambda: False)
        assert table is not None  # nothing asks to stop

        def answered() -> Iterator[Batch]:
            for batch in _first_epoch(loader):
                table.answers.put(batch.indices.to(process.device), net.logits(batch))
                yield batch

        speeds: dict[str, list[float]] = {way: [] for way in _WAYS}
        for number in range(rounds + 1):
            for way in _WAYS:
                state.teacher = None if way == "no teacher" else table
                batches = answered() if way == _WAYS[2] else _first_epoch(loader)
                began = time.perf_counter()
                for _ in range(steps):
                    result = train_step(state, batches, config.train.accumulate)
                float(result.loss)  # waits for the device
                seconds = time.perf_counter() - began
                if number:
                    images = steps * config.train.accumulate * loader.batch_size
                    speeds[way].append(images / seconds)
    plain = speeds["no teacher"]
    size = table.answers.num_bytes / loader.num_samples
    return {
        way: {
            "images_per_second": estimate(found),
            "without_teacher_ratio": estimate([a / b for a, b in zip(found, plain, strict=True)]),
            **({"answer_bytes": estimate([size])} if way == "stored answers" else {}),
        }
        for way, found in speeds.items()
    }


def _first_epoch(loader: Loader) -> Iterator[Batch]:
    """The batches of the first epoch, again and again: its answers are stored."""
    while True:
        loader.set_epoch(0)
        yield from loader
