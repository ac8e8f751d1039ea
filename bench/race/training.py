"""Training under one condition: the step alone, the loader alone, both, and a torch DataLoader.

In: a `Point`. Out: an `Outcome`. The step is `train_step` on a state of `build_state`, like that of
the command `train`. "The step alone" uses one batch that is on the device already. The torch
DataLoader feeds the same step. The four are contestants of one race in this process: they are
measured in turns.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipform.bench.images import image_files
from slipform.bench.race.measure import estimate
from slipform.bench.race.race import Effort, Rounds, cpu_seconds, race, synchronize, timed
from slipform.bench.result.result import Estimate, Settings
from slipform.bench.work import Work, is_small, usual_work
from slipform.pipelines.machine import peak_memory, reset_peak

if TYPE_CHECKING:
    from slipform.pipelines.batch import Batch

__all__ = [
    "BACKBONES",
    "MODELS",
    "SMALL_MODELS",
    "Outcome",
    "Point",
    "decided",
    "figures_of",
    "measure_point",
    "run_config",
]

BACKBONES = ("alexnet", "resnet18", "resnet34", "resnet50", "vgg16")
MODELS = (*BACKBONES, "tiny", "cnn")  # the default for images of any size
SMALL_MODELS = ("tiny", "cnn", "fast")  # the default for small images
_LONG_RUN_EPOCHS = 10_000
_RATES = ("step", "loader", "end_to_end", "torch")


@dataclass(frozen=True)
class Point:
    """One condition.

    Attributes:
        data: The dataset folder.
        model: The name of a net in the registry.
        batch_size: Images in a batch.
        precision: The setting train.precision.
        compile: The setting train.compile.
        layout: The setting train.channels_last: "auto", "last" (true) or "first" (false).
        executor: The setting data.executor.
        device: "cpu" or "cuda".
        cores: The number of cores that the process may use.
        peer: Whether to measure a torch DataLoader with the same step, too.
    """

    data: str
    model: str
    batch_size: int
    precision: str = "auto"
    compile: str = "auto"
    layout: str = "auto"
    executor: str = "auto"
    device: str = "cpu"
    cores: int = 1
    peer: bool = True


@dataclass(frozen=True)
class Outcome:
    """The result of a point.

    Attributes:
        settings: The settings that "auto" stands for.
        figures: Quantity -> its estimate.
    """

    settings: Settings = field(default_factory=dict)
    figures: dict[str, Estimate] = field(default_factory=dict)


def run_config(point: Point, work: Work) -> Any:
    """The configuration of the run: SGD with momentum, cross entropy.

    Args:
        point: The condition.
        work: The work of the loader.

    Returns:
        A RunConfig.
    """
    from slipform.models.spec import ModelConfig
    from slipform.train.config.optimizers import Sgd
    from slipform.train.config.run_config import RunConfig
    from slipform.train.config.sections import DataConfig, TrainConfig

    own_stem = point.model in BACKBONES and is_small(Path(point.data))
    return RunConfig(
        data=DataConfig(folder=point.data, executor=point.executor),
        augment=work.augment,
        model=ModelConfig(name=point.model, small_input=own_stem),
        optimizer=Sgd(lr=0.001, momentum=0.9),
        train=TrainConfig(
            batch_size=point.batch_size,
            precision=point.precision,  # type: ignore[arg-type]
            compile=point.compile,  # type: ignore[arg-type]
            channels_last="auto" if point.layout == "auto" else point.layout == "last",
        ),
    )


def decided(point: Point, seconds: float, *, known: bool = True) -> Point:
    """Replace "auto" in precision, compile and layout, as `train` does for a long run.

    Args:
        point: The condition.
        seconds: The setting train.auto_seconds.
        known: Whether a choice in the profile of the machine is taken.
    """
    from slipform.pipelines.manifest import read_manifest
    from slipform.train.machine.device import set_up
    from slipform.train.machine.distributed import join
    from slipform.train.run.decide import decide

    with join(point.device) as process:
        config = run_config(point, _work(point, str(process.device), "float32"))
        config = config.replace("train.epochs", _LONG_RUN_EPOCHS)
        config = config.replace("train.auto_seconds", seconds)
        set_up(config.train, process.device)
        manifest = read_manifest(Path(point.data))
        train = decide(config, manifest, process, known=known).config.train
    layout = "last" if train.channels_last else "first"
    return replace(point, precision=train.precision, compile=train.compile, layout=layout)


def measure_point(point: Point, effort: Effort) -> Outcome:
    """Measure one point in this process.

    Args:
        point: The condition.
        effort: Rounds, span and warm-up.

    Raises:
        torch.OutOfMemoryError: The memory of the device is too small.
    """
    import torch

    from slipform.pipelines.loader import Loader
    from slipform.train.machine.device import pick_precision, set_up
    from slipform.train.machine.distributed import join
    from slipform.train.step.build import build_state
    from slipform.train.step.step import set_train_mode, train_step

    with ExitStack() as stack:
        process = stack.enter_context(join(point.device))
        precision = pick_precision(point.precision, process.device)  # type: ignore[arg-type]
        dtype, device = str(precision).removeprefix("torch."), str(process.device)
        work = _work(point, device, dtype)
        config = run_config(point, work)
        set_up(config.train, process.device)
        # Open it first: its workers are forked, and this process must have no threads then.
        theirs = _open_torch(stack, work) if point.peer else None

        began = time.perf_counter()
        loader = stack.enter_context(
            Loader(
                Path(point.data),
                augment=work.augment,
                batch_size=point.batch_size,
                executor=point.executor,
                device=process.device,
                dtype=precision,
                reuse_buffers=True,
            )
        )
        fixed = _copy(next(iter(loader)))
        synchronize(device)
        first_batch_seconds = time.perf_counter() - began

        reset_peak(device)
        classes = loader.manifest.num_classes
        state = build_state(
            config, num_classes=classes, process=process, first_images=lambda: fixed.images
        )
        set_train_mode(state)

        def step(batch: Batch) -> None:
            train_step(state, iter((batch,)))

        step_seconds = [_seconds(lambda: step(fixed), device) for _ in range(3)]
        ours = _endless(loader)
        longer = replace(effort, min_batches=max(8, effort.min_batches))
        contestants = {
            "step": lambda: timed(repeat(fixed), device, effort, step),
            "loader": lambda: timed(ours, device, longer, lambda batch: None),
            "end_to_end": lambda: timed(ours, device, effort, step),
        }
        timed(ours, device, replace(effort, seconds=0.0), step)
        memory = peak_memory(device, alone=True)  # before the torch DataLoader's first turn
        if theirs is not None:
            contestants["torch"] = lambda: timed(theirs, device, effort, step)
        rounds = race(contestants, effort.rounds)

        settings: Settings = {
            "executor": loader.executor_name,
            "precision": dtype,
            "channels_last": config.train.channels_last is not False,
            "compiled": state.functions.compiled,
            "parameters": sum(parameter.numel() for parameter in state.model.parameters()),
            "torch_threads": torch.get_num_threads(),
        }
        once = memory | {"first_batch_seconds": first_batch_seconds}
        if state.functions.compiled:
            once["compile_seconds"] = step_seconds[0] - statistics.median(step_seconds[1:])
    figures = figures_of(rounds) | {name: estimate([value]) for name, value in once.items()}
    return Outcome(settings, figures)


def figures_of(rounds: Rounds) -> dict[str, Estimate]:
    """Compute the figures of a row: rates, ratios between them, shares of waiting.

    Args:
        rounds: The measurements of "step", "loader", "end_to_end" and, optionally, "torch".

    Returns:
        Quantity -> its estimate.
    """
    figures = {
        f"{name}_images_per_second": rounds.estimates(name)["images_per_second"]
        for name in _RATES
        if name in rounds.values
    }
    figures["end_to_end_ratio"] = rounds.ratio("end_to_end", "step")
    figures["wait_share"] = rounds.estimates("end_to_end")["wait_share"]
    if "torch" in rounds.values:
        figures["multiple_of_torch"] = rounds.ratio("end_to_end", "torch")
        figures["torch_wait_share"] = rounds.estimates("torch")["wait_share"]
    return figures


def _work(point: Point, device: str, dtype: str) -> Work:
    data = Path(point.data)
    work = usual_work(
        data, batch_size=point.batch_size, cores=point.cores, device=device, dtype=dtype
    )
    if work.stored == "raw":
        return work
    return replace(work, files=str(image_files(data, "train")))


def _open_torch(stack: ExitStack, work: Work) -> Iterator[Batch]:
    """The batches of a torch DataLoader. Its workers have filled their queue and are idle."""
    import torch

    from slipform.bench.peers import torch_dataloader
    from slipform.pipelines.batch import Batch

    chosen = torch_dataloader.candidates(work)[0]
    peer = stack.enter_context(torch_dataloader.batches(work, chosen))
    next(peer)
    for _ in range(100):
        before = cpu_seconds()
        time.sleep(0.2)
        if cpu_seconds() - before < 0.02:
            break
    indices = torch.arange(work.batch_size)
    return (
        Batch(images.contiguous(memory_format=torch.channels_last), labels, indices)
        for images, labels in peer
    )


def _seconds(call: Any, device: str) -> float:
    """The seconds of a call, until the device has finished."""
    began = time.perf_counter()
    call()
    synchronize(device)
    return time.perf_counter() - began


def _copy(batch: Batch) -> Batch:
    """A copy of a batch that stays valid when the loader continues."""
    return replace(batch, images=batch.images.clone(), labels=batch.labels.clone())


def _endless(loader: Any) -> Iterator[Batch]:
    while True:
        yield from loader
