"""The training loop, `fit`: a new or resumed run, to its end and the test.

In: a configuration, a dataset folder, a run folder. Out: the summary, which is also in
summary.json. The host reads numbers from the device every log_every_steps, at the end of an epoch
and for a checkpoint, and at no other time.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from slipform.pipelines.errors import Interrupted, SlipformError, StorageError, lacks_memory
from slipform.pipelines.loader import Loader
from slipform.pipelines.mirror.folder import local_folder
from slipform.train.config.run_config import RunConfig
from slipform.train.machine import distributed
from slipform.train.machine.allocator import give_back_freed_memory
from slipform.train.machine.distributed import Requests
from slipform.train.machine.interrupt import watched
from slipform.train.run import losses
from slipform.train.run.best import load_best
from slipform.train.run.counters import EpochTotals, advice
from slipform.train.run.divergence import diverged
from slipform.train.run.ending import await_samples, awaiting, save, stop
from slipform.train.run.epoch_changes import begin_epoch
from slipform.train.run.finish import finish
from slipform.train.run.identity import check_unchanged
from slipform.train.run.open import Run, open_run
from slipform.train.run.steps import STEPS_UNTIL_ESTIMATE, next_counts
from slipform.train.step.evaluate import AnyEvaluation, evaluate, recorded
from slipform.train.step.schedule import factor
from slipform.train.step.step import set_train_mode, zero_gradients

__all__ = ["end_epoch", "fit", "train_epoch"]


def fit(
    config: RunConfig,
    data: Path | str,
    out: Path | str,
    *,
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    other_data: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Train a model on a dataset and write a run folder.

    Args:
        config: All settings of the run.
        data: The dataset folder, or its URL in an object store.
        out: The run folder to write.
        device: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:N".
        resume: Continue the run in `out` from its last checkpoint.
        overwrite: Replace a run that is in `out` already.
        other_data: With resume: accept a dataset other than the run's.
        quiet: Print nothing.

    Returns:
        The content of summary.json: "test_accuracy" (0..1), "seconds" and more.

    Raises:
        Interrupted: After Ctrl-C or SIGTERM; a checkpoint was written.
        SlipformError: Training diverged, or a setting, the data or the folder is wrong.

    Example:
        ```python
        import slipform as sf

        recipe = sf.load_recipe("shapes/demo")
        config = sf.resolve(recipe, ["train.epochs=1", "augment.image_size=32"])
        summary = sf.fit(config, "data/shapes", "runs/second", quiet=True)
        print(summary["test_accuracy"])
        ```
    """
    with distributed.join(device) as process, watched() as stop_requested:
        try:
            run = open_run(
                config,
                local_folder(data),
                Path(out),
                process,
                stop_requested,
                resume=resume,
                overwrite=overwrite,
                other_data=other_data,
                quiet=quiet,
            )
        except (MemoryError, RuntimeError) as error:
            _explain(error, config)
            raise
        try:
            while run.state.epoch < run.config.train.epochs and not _stops_early(run):
                begin_epoch(run)
                train_epoch(run)
                end_epoch(run)
            return finish(run)
        except (MemoryError, RuntimeError) as error:
            _explain(error, run.config)
            raise
        finally:
            run.close()
            give_back_freed_memory()


def _explain(error: Exception, config: RunConfig) -> None:
    """Say what to do if an error is about missing memory."""
    if isinstance(error, torch.OutOfMemoryError) or lacks_memory(error):
        raise SlipformError(
            f"out of memory with train.batch_size = {config.train.batch_size}: choose a smaller"
            f" one, or train.batch_size = auto in a new run ({error})"
        ) from error


def train_epoch(run: Run) -> None:
    """Train from the loader's position to the end of the epoch.

    Return at once if the epoch was trained before the run was resumed.

    Args:
        run: The run, after `begin_epoch`.

    Raises:
        Diverged: A loss or a weight is not finite.
        Interrupted: The run was asked to stop; a checkpoint was written.
    """
    config, state, loader, counters = run.config.train, run.state, run.train, run.counters
    if loader.epoch != state.epoch:
        return
    left, length = loader.remaining_batches, len(loader)
    run.recorder.progress.begin_epoch(state.epoch + 1, config.epochs, length - left, length)
    set_train_mode(state)
    run.steps.begin()
    while left:
        counts, rates = next_counts(config, state.step, left), []
        for count in counts:
            position = state.epoch + (length - left) / length
            rates.append(factor(run.config.schedule, position, config.epochs))
            left -= count
        if (problem := await_samples(run, loader, sum(counts))) is not None:
            stop(run, problem)
        launched = run.steps.run(counts, rates)
        counters.pending.losses.append(launched.losses)
        counters.pending.correct.append(launched.correct)
        counters.pending.images += [count * loader.global_batch_size for count in counts]
        counters.pending.rates += [rate * run.config.optimizer.lr for rate in rates]
        done = counters.epoch
        for _ in range(sum(counts)):
            run.recorder.progress.step(done.images, done.train_seconds, done.wait_share)
        _after_steps(run, launched.images, last=left == 0)
    run.steps.end()


def _after_steps(run: Run, images: Tensor, last: bool) -> None:
    """Read numbers, write a checkpoint or stop the run, if it is time for it."""
    config, state = run.config.train, run.state
    if last:
        losses.read(run)
    elif state.step % config.log_every_steps == 0:
        losses.send(run)
    if state.step == STEPS_UNTIL_ESTIMATE:
        _say_advice(run)
    with run.counters.paused():
        if state.step == 1:
            run.recorder.images(images)
        if last:
            run.recorder.histograms(state.model, state.step)
    if last:
        zero_gradients(state)  # validation needs no memory for them
    asked = run.agreement.any(Requests(run.stop_requested.is_set(), _is_save_due(run)))
    if asked.stop:
        stop(run)
    every = config.checkpoint_every_steps
    if not last and (asked.save or (every and state.step % every == 0)):
        save(run)


def _is_save_due(run: Run) -> bool:
    """Whether it is time for a checkpoint by the clock of the main process. It asks once."""
    minutes = run.config.train.checkpoint_every_minutes
    if not minutes or not run.process.is_main or time.monotonic() < run.saved_at + 60 * minutes:
        return False
    run.saved_at = time.monotonic()
    return True


def _say_advice(run: Run) -> None:
    """Print how long the run takes, and what would make it faster."""
    loader, done = run.train, run.counters.timing
    images = run.config.train.epochs * loader.epoch_images - done.images
    pretrained = run.config.model.weights != "none"
    shown = run.recorder.progress.shown
    text = advice(images, done.images_per_second, pretrained=pretrained, time_shown=shown)
    if text:
        run.recorder.say(text)


def end_epoch(run: Run) -> None:
    """Validate, record the epoch, save or restore the best weights, write a checkpoint.

    Args:
        run: The run, after `train_epoch`.

    Raises:
        Diverged: The validation loss or a weight is not finite.
        Interrupted: The run was asked to stop; a checkpoint was written.
    """
    config, state = run.config.train, run.state
    result = _measure(run, run.val)
    if result is not None and not math.isfinite(result.loss):
        raise diverged(run, f"the validation loss of epoch {state.epoch + 1} is {result.loss}")
    test = _measure(run, run.test)
    state.epoch += 1
    if run.counters.samples is not None:
        run.counters.samples.end_epoch(run.folder, state.epoch)
    line = _epoch_line(run, result)
    if test is not None:
        found = recorded("test", test, run.manifest.labels)
        line |= {name: found[name] for name in ("test_loss", "test_accuracy")}
    run.recorder.epoch(state.step, line)
    run.counters.epoch = EpochTotals()
    if _is_best(run, line):
        if result is not None:
            state.best = replace(state.best, thresholds=result.best_thresholds)
        run.save_best()
        weights = state.evaluated.state_dict() if config.restart_from_best_after else {}
        # Without the setting none: checkpoints must not name those of an earlier epoch the best.
        state.best_weights = {name: w.cpu().clone() for name, w in weights.items()} or None
    elif (
        config.restart_from_best_after and state.epochs_since_best >= config.restart_from_best_after
    ):
        if state.best_weights is None:  # the setting was 0 in the best epoch
            best = load_best(run.folder, run.manifest.classes) if run.process.is_main else {}
            own = {name: w.clone() for name, w in best.items()}  # not parts of one buffer
            state.best_weights = run.process.broadcast_object(own)
        assert state.best_weights is not None
        run.recorder.say(
            f"{state.epochs_since_best} epochs without a better one: restarting from the weights of"
            f" epoch {state.best.epoch}"
        )
        state.restart_from(state.best_weights, clear_momentum=config.restart_clears_momentum)
        run.steps.forget()
    save(run)
    check_unchanged(run.config, run.manifest, run.folder)
    requests = Requests(run.stop_requested.is_set())
    if state.epoch < config.epochs and run.agreement.any(requests).stop:
        stop(run)


def _is_best(run: Run, line: dict[str, Any]) -> bool:
    """Record the result of the epoch, and return whether it is the best one so far."""
    select = run.config.train.select
    if line["val_accuracy"] is None and select != "train_loss":
        return run.state.is_best(-1.0, select="last")
    accuracy = line["val_accuracy"]
    loss = line["train_loss" if select == "train_loss" else "val_loss"]
    return run.state.is_best(-1.0 if accuracy is None else accuracy, loss, select)


def _measure(run: Run, loader: Loader | None) -> AnyEvaluation | None:
    if loader is None:
        return None
    run.recorder.progress.begin_validation(len(loader))
    try:
        each = awaiting(run, loader, run.recorder.progress.step)
        return evaluate(run.state, loader, run.process, each)
    except (Interrupted, StorageError) as problem:
        stop(run, problem)  # the resumed run validates again


def _epoch_line(run: Run, result: AnyEvaluation | None) -> dict[str, Any]:
    epoch = run.counters.epoch
    return {
        "epoch": run.state.epoch,
        "train_loss": epoch.mean_loss,
        "train_accuracy": epoch.accuracy,
        **recorded("val", result, run.manifest.labels),
        "train_seconds": epoch.train_seconds,
        "images_per_second": epoch.images_per_second,
        "data_wait_share": epoch.wait_share,
    }


def _stops_early(run: Run) -> bool:
    patience, state = run.config.train.early_stop_after, run.state
    # Epoch 0: the best weights were lost in the middle of an epoch, and the next one is the best.
    if not patience or not state.best.epoch or state.epoch - state.best.epoch < patience:
        return False
    best = f"no epoch was better than epoch {state.best.epoch} for {patience} epochs"
    run.recorder.say(f"stopping after epoch {state.epoch}: {best}")
    return True
