"""Opening a new or resumed run: its data, model, counters and records.

In: a configuration, a dataset folder, a run folder. Out: a `Run` for the loop.
"""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from slipform.models.registry import fetch_weights
from slipform.pipelines.errors import ConfigError
from slipform.pipelines.loader import Loader
from slipform.pipelines.manifest import Manifest, read_manifest
from slipform.pipelines.mirror.folder import source_of
from slipform.train.config.own_input import input_note
from slipform.train.config.run_config import RunConfig
from slipform.train.machine.device import set_up
from slipform.train.machine.distributed import Agreement, Process
from slipform.train.machine.interrupt import StopRequest
from slipform.train.records import read_summary
from slipform.train.records.sink import check_packages
from slipform.train.run import best, checkpoint, folder
from slipform.train.run import resume as resuming
from slipform.train.run.auto import without_auto
from slipform.train.run.counters import Counters
from slipform.train.run.headline import continuing, headline
from slipform.train.run.identity import check_dataset
from slipform.train.run.record import Recorder
from slipform.train.run.samples import open_samples
from slipform.train.run.saving import Checkpoints
from slipform.train.run.starts import record_start
from slipform.train.run.steps import Steps, open_steps
from slipform.train.run.teacher import Teacher, check_not_own, with_teacher
from slipform.train.run.training_data import (
    evaluation_executors,
    first_images,
    open_evaluation,
    open_training_data,
    warm_up,
)
from slipform.train.step.build import build_state
from slipform.train.step.class_weights import Labels
from slipform.train.step.evaluate import evaluate
from slipform.train.step.state import TrainState

__all__ = ["Run", "open_run"]


@dataclass
class Run:
    """An open run. Only `state`, `counters`, the loaders, `steps` and `saved_at` change.

    Attributes:
        config: All settings, without "auto" for batch size, precision, format and compilation.
        folder: The run folder.
        manifest: The manifest of the dataset.
        process: This process.
        state: The model, its optimizers, and the progress.
        counters: Sums, times and pending numbers.
        train: The loader of the training split.
        val: The loader of the validation split; None if the dataset has none.
        test: The loader of the test split for train.test_each_epoch; None without that.
        evaluation: The executors of the evaluation; see `evaluation_executors`.
        recorder: Writes metrics, sinks and messages.
        stop_requested: Set by a signal: the loop writes a checkpoint and stops.
        agreement: Combines the requests of the processes.
        held: Holds the lock of the folder.
        steps: Makes the steps of the training.
        teacher: Makes the answers of distill.teacher; None: there is no teacher.
        checkpoints: Writes the checkpoints.
        saved_at: Seconds of time.monotonic: the last checkpoint, or the request for it.
    """

    config: RunConfig
    folder: Path
    manifest: Manifest
    process: Process
    state: TrainState
    counters: Counters
    train: Loader
    val: Loader | None
    test: Loader | None
    evaluation: dict[str, str]
    recorder: Recorder
    stop_requested: StopRequest
    agreement: Agreement
    held: ExitStack
    steps: Steps
    teacher: Teacher | None
    checkpoints: Checkpoints
    saved_at: float = field(default_factory=lambda: time.monotonic())

    def save(self) -> None:
        """Write a checkpoint. Every process calls this; the main process writes."""
        content = resuming.content(
            self.config, self.state, self.counters, self.train, self.evaluation, self.process
        )
        if self.process.is_main:
            self.checkpoints.save(self.state.step, content)
        self.saved_at = time.monotonic()

    def save_best(self, weights: dict[str, Tensor] | None = None) -> None:
        """Write best.safetensors, with the classes and the accuracy as metadata.

        Args:
            weights: Tensors by name. Default: the weights of the evaluated model.
        """
        metadata = {
            "epoch": str(self.state.best.epoch),
            "model": self.config.model.name,
            "classes": json.dumps(self.manifest.classes, ensure_ascii=False),
            "labels": self.manifest.labels,
            "thresholds": json.dumps(self.state.best.thresholds),
        }
        if self.val is not None:
            metadata["val_accuracy"] = str(self.state.best.accuracy)
        if self.process.is_main:
            best.save_best(self.folder, weights or self.state.evaluated.state_dict(), metadata)

    def close(self) -> None:
        """Close the records and the loaders, and release the lock, also after an error in one."""
        with ExitStack() as opened:
            opened.enter_context(self.held)
            for loader in (self.train, self.val, self.test):
                if loader is not None:
                    opened.enter_context(loader)
            opened.callback(self.recorder.close)
            opened.callback(self.checkpoints.close)


def open_run(
    config: RunConfig,
    data: Path,
    out: Path,
    process: Process,
    stop_requested: StopRequest,
    *,
    resume: bool,
    overwrite: bool,
    other_data: bool,
    quiet: bool,
) -> Run:
    """Open a new run, or resume one from its newest checkpoint that is not damaged.

    The folder is locked until the run is closed.

    Args:
        config: The settings of the run.
        data: The dataset folder.
        out: The run folder.
        process: This process; every process calls this function.
        stop_requested: Set by a signal: the loop writes a checkpoint and stops.
        resume: Whether to continue the run in `out`.
        overwrite: Whether a run in `out` may be replaced.
        other_data: With resume: whether `data` may be another dataset with as many classes.
        quiet: Print nothing.

    Raises:
        SlipformError: Another process uses `out`, `data` is not the dataset of the run and
            other_data is False, or a setting is wrong.
    """
    with ExitStack() as opened:  # closes what is open if there is an error
        run = _open(
            config, data, out, process, stop_requested, opened,
            resume=resume, overwrite=overwrite, other_data=other_data, quiet=quiet,
        )  # fmt: skip
        opened.pop_all()
    return run


def _open(
    config: RunConfig,
    data: Path,
    out: Path,
    process: Process,
    stop_requested: StopRequest,
    opened: ExitStack,
    *,
    resume: bool,
    overwrite: bool,
    other_data: bool,
    quiet: bool,
) -> Run:
    held = opened.enter_context(ExitStack())
    set_up(config.train, process.device)
    resuming.check_same_start(out, process, resume=resume)
    manifest = read_manifest(data)
    config = config.replace("data.folder", source_of(data))
    messages: list[str] = []
    check_not_own(config, out)
    if process.is_main and not resume:  # a resumed run goes on without a tracker that is missing
        check_packages(config.records.sinks)
    is_locked = process.is_main and folder.check(out, held, resume=resume, overwrite=overwrite)
    config = with_teacher(config, manifest, process)
    if process.is_main and not resume:  # an error comes before the measurements for "auto"
        fetch_weights(config.model)
    config, note = without_auto(config, manifest, process, messages, out if resume else None)
    # Wait until all processes have read the manifest, and the main process has locked its folder.
    out = process.broadcast_object(out)
    if resume:
        messages += check_dataset(out, source_of(data), manifest, other_data)
    saved = checkpoint.load_newest(out, messages.append) if resume else None
    loader = opened.enter_context(open_training_data(config, saved, process))
    if loader.decoder_share is not None:
        config = config.replace("data.decoder_share", loader.decoder_share)
    # A checkpoint has all weights. The file that model.weights names may not exist any more.
    begun = config if saved is None else config.replace("model.weights", "none")
    state = build_state(
        begun,
        num_classes=manifest.num_classes,
        process=process,
        first_images=(lambda: first_images(loader)) if saved is None else None,
        on_load=lambda report: messages.extend(
            [str(report), *(f"warning: {line}" for line in report.warnings), *input_note(config)]
        ),
        labels=Labels.of(loader),
    )
    samples = open_samples(config, loader, process)
    counters = Counters(samples=samples)
    if saved is not None:
        counters = resuming.restore(
            saved, config, state, loader, process, messages.append,
            other_data=other_data, samples=samples,
        )  # fmt: skip
        messages.append(continuing(state.step, state.epoch, config.train.epochs))
    elif resume and read_summary(out) is not None:
        raise ConfigError(
            f"{out} is finished, and its checkpoints were removed, as a sweep does: it cannot"
            " continue. Train again with --overwrite, or set model.weights of a new run to this"
            " folder."
        )
    elif resume:
        messages.append(f"{out} has no checkpoint yet: starting from the beginning")
    begun_with = None if other_data else saved  # another dataset may not fit into memory
    evaluation = evaluation_executors(config, begun_with, manifest, process)
    val, test = open_evaluation(config, "val", manifest, process, evaluation, opened), None
    if config.train.test_each_epoch:
        test = open_evaluation(config, "test", manifest, process, evaluation, opened)
    if val is None and config.train.select != "train_loss":
        messages.append(
            "this dataset has no val split: the weights of the last epoch are saved and tested"
        )

    if config.loss.weights != "none" and config.data.sampling != "all":
        messages.append(
            f"loss.{config.loss.weights_setting} and data.sampling both make rare classes count"
            " more: use one of them"
        )

    if process.is_main:
        folder.prepare(
            out, held, config, manifest, note,
            is_locked=is_locked, resume=resume, overwrite=overwrite,
        )  # fmt: skip
        messages += record_start(out, state.step, config, loader, process, saved)
    steps = open_steps(config, state, loader, counters, process)
    recorder = Recorder(
        out, writes=process.is_main, quiet=quiet, step=state.step, epoch=state.epoch,
        records=config.records,
    )  # fmt: skip
    opened.callback(recorder.close)
    for message in (*messages, headline(config, manifest, state, loader, process)):
        recorder.say(message)
    recorder.settings(config)
    warm_up(loader, process, recorder.say)
    run = Run(
        config, out, manifest, process, state, counters, loader, val, test,
        evaluation, recorder, stop_requested, process.agreement(), held, steps,
        Teacher(config, process, recorder.say) if config.distill.teacher else None,
        Checkpoints(out, config.train.keep_checkpoints, ahead=process.device.type == "cuda"),
    )  # fmt: skip
    opened.callback(run.checkpoints.close)
    if saved is not None:
        _recover_best(run)
    return run


def _recover_best(run: Run) -> None:
    """Restore best.safetensors on the main process, and send the best epoch to all processes."""
    state, process, before = run.state, run.process, run.state.best
    if process.is_main and state.best.epoch:
        at_end = (run.train.epoch, run.train.seen) == (state.epoch, 0)
        loss = "train_loss" if run.config.train.select == "train_loss" else "val_loss"
        state.best = best.recover(
            run.folder, state, run.manifest.classes, at_end, run.save_best, run.recorder.say, loss
        )
    state.best = process.broadcast_object(state.best)
    if before.thresholds and state.best.epoch and not state.best.thresholds and run.val:
        # Other weights have replaced the lost ones.
        thresholds = evaluate(state, run.val, process).best_thresholds
        state.best = replace(state.best, thresholds=thresholds)
        run.save_best()
