"""`bench train`: does the step ever wait for data? For each backbone, batch size, precision and
compile mode:

(a) the step on a batch that is already there, (b) the loader alone, (c) both, and beside them a
torch DataLoader that feeds the same step. In: points. Out: a row for each, with c / a, the share of
(c) spent waiting in next(loader), peak memory, compile time and time to first batch. The step is
slipform.train.step.step.train_step on a state made by slipform.train.step.build.build_state: what
`train` runs.

Each point has a process of its own. Within it the measurements take turns, so c / a is formed from
neighbors in time. On a CPU loader and step share the cores, so c / a below 1 is work, not waiting.
On a GPU the host runs ahead of the device: what a full queue of the device costs is not waiting for
data, so c / a is the measure there, and the waiting share its bound.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipform.bench.race.contestant import cpu_seconds
from slipform.bench.race.images import image_files
from slipform.bench.race.measure import Effort, figure, interleave, ratio, synchronize
from slipform.bench.race.work import Work, is_small, usual_work
from slipform.bench.race.worker import Died, isolated
from slipform.bench.result.result import Estimate, Row, Settings, Status
from slipform.pipelines.machine import peak_memory, reset_peak
from slipform.pipelines.manifest import read_manifest

if TYPE_CHECKING:
    from slipform.pipelines.batch import Batch

BACKBONES = ("alexnet", "resnet18", "resnet34", "resnet50", "vgg16")
MODELS = (*BACKBONES, "tiny", "cnn")
SMALL_MODELS = ("tiny", "cnn", "fast")
FULL = Effort(rounds=7, seconds=3.0, warmup_seconds=0.5, min_batches=3)
QUICK = Effort(rounds=3, seconds=0.5, warmup_seconds=0.0, min_batches=2)


@dataclass(frozen=True)
class Point:
    """One condition. precision and compile as in the [train] section of a recipe; peer: feed the
    step from torch too."""

    data: str
    model: str
    batch_size: int
    precision: str = "auto"
    compile: str = "auto"
    executor: str = "auto"
    device: str = "cpu"
    cores: int = 1
    peer: bool = True


@dataclass(frozen=True)
class Outcome:
    """What a point's process says."""

    status: Status = "ok"
    note: str = ""
    settings: Settings = field(default_factory=dict)
    figures: dict[str, Estimate] = field(default_factory=dict)


def feed(
    batches: Iterator[Batch], step: Callable[[Batch], Any], device: str, effort: Effort
) -> dict[str, float]:
    """Run `step` on batches for effort.seconds, at least effort.min_batches, after a warm-up that
    empties the loader's queue.

    images_per_second, and wait_share: the share of that time which next(batches) took.
    """
    _feed_for(batches, step, effort.min_batches, effort.warmup_seconds)
    synchronize(device)
    start = time.perf_counter()
    images, waited = _feed_for(batches, step, effort.min_batches, effort.seconds)
    synchronize(device)
    elapsed = time.perf_counter() - start
    return {"images_per_second": images / elapsed, "wait_share": waited / elapsed}


def _feed_for(
    batches: Iterator[Batch], step: Callable[[Batch], Any], at_least: int, seconds: float
) -> tuple[int, float]:
    """Returns images trained on and seconds spent in next(batches)."""
    images, taken, waited = 0, 0, 0.0
    end = time.perf_counter() + seconds
    while taken < at_least or time.perf_counter() < end:
        began = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - began
        step(batch)
        images += len(batch)
        taken += 1
    return images, waited


def measure_point(point: Point, effort: Effort) -> Outcome:
    """Everything about one point, in this process. Running out of memory is an outcome."""
    import torch

    try:
        return _measure(point, effort)
    except torch.OutOfMemoryError as error:
        return Outcome("out of memory", str(error).splitlines()[0])
    except RuntimeError as error:
        if "allocate memory" in str(error):  # torch's allocator on a CPU has no class of its own
            return Outcome("out of memory", str(error).splitlines()[0])
        raise


def run_config(point: Point, work: Work) -> Any:
    """The run that `train` would do: SGD with momentum, cross entropy."""
    from slipform.models.registry import ModelConfig
    from slipform.train.config.sections import DataConfig, OptimizerConfig, RunConfig, TrainConfig

    own_stem = point.model in BACKBONES and is_small(Path(point.data))
    return RunConfig(
        data=DataConfig(folder=point.data, executor=point.executor),  # type: ignore[arg-type]
        augment=work.augment,
        model=ModelConfig(name=point.model, small_input=own_stem),
        optimizer=OptimizerConfig(lr=0.001, momentum=0.9),
        train=TrainConfig(
            batch_size=point.batch_size,
            precision=point.precision,  # type: ignore[arg-type]
            compile=point.compile,  # type: ignore[arg-type]
        ),
    )


def _measure(point: Point, effort: Effort) -> Outcome:
    import torch

    from slipform.bench.peers import torch_dataloader
    from slipform.pipelines.batch import Batch
    from slipform.pipelines.loader import Loader
    from slipform.train.machine.device import pick_precision, set_up
    from slipform.train.machine.distributed import join
    from slipform.train.step.build import build_state
    from slipform.train.step.step import set_train_mode, train_step

    with ExitStack() as stack:
        process = stack.enter_context(join(point.device))
        precision = pick_precision(point.precision, process.device)  # type: ignore[arg-type]
        dtype = str(precision).removeprefix("torch.")
        data, device = Path(point.data), str(process.device)
        work = usual_work(
            data, batch_size=point.batch_size, cores=point.cores, device=device, dtype=dtype
        )
        if work.stored == "jpeg":
            work = replace(work, files=str(image_files(data, "train")))
        config = run_config(point, work)
        set_up(config.train, process.device)
        peer = None
        # first: its workers are forks, which should happen before this process has threads of its
        # own
        if point.peer:
            chosen = torch_dataloader.candidates(work)[0]
            peer = stack.enter_context(torch_dataloader.batches(work, chosen))
            next(peer)
            _settle()

        began = time.perf_counter()
        loader = stack.enter_context(
            Loader(
                data,
                augment=work.augment,
                batch_size=point.batch_size,
                executor=point.executor,
                device=process.device,
                dtype=precision,
                reuse_buffers=True,
            )
        )
        fixed = _kept(next(iter(loader)))
        synchronize(device)
        first_batch_seconds = time.perf_counter() - began

        reset_peak(device)
        classes = loader.manifest.num_classes
        state = build_state(
            config, num_classes=classes, process=process, first_images=lambda: fixed.images
        )
        set_train_mode(state)
        step_seconds = []
        for _ in range(3):
            began = time.perf_counter()
            train_step(state, fixed)
            synchronize(device)
            step_seconds.append(time.perf_counter() - began)

        ours = _endless(loader)
        turns = {
            "step": lambda: feed(
                repeat(fixed), lambda batch: train_step(state, batch), device, effort
            ),
            "loader": lambda: feed(
                ours,
                lambda batch: None,
                device,
                replace(effort, min_batches=max(8, effort.min_batches)),
            ),
            "end_to_end": lambda: feed(
                ours, lambda batch: train_step(state, batch), device, effort
            ),
        }
        feed(ours, lambda batch: train_step(state, batch), device, replace(effort, seconds=0.0))
        memory = peak_memory(device, alone=True)  # before the torch DataLoader's first turn
        if peer is not None:
            indices = torch.arange(point.batch_size)
            theirs = (
                Batch(images.contiguous(memory_format=torch.channels_last), labels, indices)
                for images, labels in peer
            )
            turns["torch"] = lambda: feed(
                theirs, lambda batch: train_step(state, batch), device, effort
            )
        values = interleave(turns, effort.rounds)

        parameters = sum(parameter.numel() for parameter in state.model.parameters())
        settings: Settings = {
            "executor": loader.executor_name,
            "precision": dtype,
            "compiled": state.functions.compiled,
            "parameters": parameters,
            "torch_threads": torch.get_num_threads(),
        }
        figures = _figures(values) | {name: figure([value]) for name, value in memory.items()}
        figures["first_batch_seconds"] = figure([first_batch_seconds])
        if state.functions.compiled:
            figures["compile_seconds"] = figure(
                [step_seconds[0] - statistics.median(step_seconds[1:])]
            )
    return Outcome(settings=settings, figures=figures)


def _figures(values: dict[str, dict[str, list[float]]]) -> dict[str, Estimate]:
    rates = {name: found["images_per_second"] for name, found in values.items()}
    figures = {f"{name}_images_per_second": figure(found) for name, found in rates.items()}
    figures["end_to_end_ratio"] = ratio(rates["end_to_end"], rates["step"])
    figures["wait_share"] = figure(values["end_to_end"]["wait_share"])
    if "torch" in rates:
        figures["multiple_of_torch"] = ratio(rates["end_to_end"], rates["torch"])
        figures["torch_wait_share"] = figure(values["torch"]["wait_share"])
    return figures


def _kept(batch: Batch) -> Batch:
    """A copy that stays valid when the loader goes on."""
    return replace(batch, images=batch.images.clone(), labels=batch.labels.clone())


def _endless(loader: Any) -> Iterator[Batch]:
    while True:
        yield from loader


def _settle() -> None:
    """Wait until the DataLoader's workers have filled their queue and rest, so that they do not
    compute while we measure."""
    for _ in range(100):
        before = cpu_seconds()
        time.sleep(0.2)
        if cpu_seconds() - before < 0.02:
            return


def run(points: list[Point], effort: Effort, say: Callable[[str], None]) -> list[Row]:
    """One row for each point; what went wrong in its process is in the row."""
    rows = []
    for number, point in enumerate(points, 1):
        say(
            f"{number} of {len(points)}: {point.model}, batch size {point.batch_size},"
            f" {point.precision}, compile {point.compile}"
        )
        outcome = isolated(measure_point, point, effort)
        if isinstance(outcome, Died):
            outcome = Outcome("out of memory" if outcome.out_of_memory else "failed", outcome.note)
        case: Settings = {
            "data": read_manifest(Path(point.data)).dataset,
            "model": point.model,
            "batch_size": point.batch_size,
            "precision": point.precision,
            "compile": point.compile,
            "loader": point.executor,
            "device": point.device,
        }
        found = {
            "settings": outcome.settings,
            "figures": outcome.figures,
            "status": outcome.status,
            "note": outcome.note,
        }
        rows.append(Row(suite="train", case=case, **found))
        if outcome.status != "ok":
            say(f"  {outcome.status}: {outcome.note}")
    return rows
