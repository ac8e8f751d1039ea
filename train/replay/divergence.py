"""The step at which a run diverged: the last checkpoint is trained on, one step after another.

In: a run folder. Out: the first step whose loss or weights are not finite, and the weights before
it. The run is continued in a copy of its folder; the folder itself does not change.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from torch import Tensor

from slipform.pipelines.errors import ConfigError, SlipformError
from slipform.train.config.run_config import RunConfig
from slipform.train.machine import distributed
from slipform.train.records import read_metrics
from slipform.train.replay.history import history
from slipform.train.run.checkpoint import FOLDER, checkpoints, is_whole
from slipform.train.run.epoch_changes import begin_epoch
from slipform.train.run.folder import CONFIG
from slipform.train.run.open import Run, open_run
from slipform.train.run.starts import STARTS
from slipform.train.step.schedule import factor
from slipform.train.step.step import set_train_mode

__all__ = ["Divergence", "find_divergence"]

_FILES = (CONFIG, "dataset.json", STARTS, "best.safetensors")


@dataclass(frozen=True)
class Divergence:
    """The first step after which a number is not finite.

    Attributes:
        step: The step, counted from 1.
        what: "the loss is nan" or the names of the weights.
        weights: The weights before the step, by name, on the CPU.
    """

    step: int
    what: str
    weights: dict[str, Tensor]


def find_divergence(run: Path, config: RunConfig, device: str = "auto") -> Divergence:
    """Train on from the newest checkpoint until a loss or a weight is not finite.

    A checkpoint is written at the end of every epoch, so this is at most one epoch. A run of
    several processes needs as many processes now, started by torchrun. Nothing is sent to trackers.

    Args:
        run: The run folder.
        config: The settings of the run; see `run_config`.
        device: "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        ConfigError: The run did not diverge, it had another number of processes, or all numbers up
            to the recorded step are finite here.
        SlipformError: The dataset is missing or was changed.
    """
    recorded = read_metrics(run, "diverged")
    if not recorded:
        raise ConfigError(f"{run} did not diverge: its metrics.jsonl has no such record")
    config, processes = config.replace("records.sinks", ()), history(run)[-1].start.world_size
    with distributed.join(device) as process, tempfile.TemporaryDirectory() as folder:
        if process.world_size != processes:
            words = f"slipform replay {run} --to-divergence"
            many = f"torchrun --nproc-per-node {processes} --no-python {words}"
            raise ConfigError(
                f"the run had {processes} processes, here are {process.world_size}: its steps would"
                f" have other batches. Give: {many if processes > 1 else words}"
            )
        copy = Path(process.broadcast_object(folder)) / "run"
        if process.is_main:
            _copy(run, copy)
        process.broadcast_object(None)
        opened = open_run(
            config,
            Path(config.data.folder),
            copy,
            process,
            Event(),
            resume=True,
            overwrite=False,
            other_data=False,
            quiet=True,
        )
        with closing(opened):
            found = _first(opened, int(recorded[-1]["step"]))
    if found is None:
        raise ConfigError(
            f"all losses and weights up to step {recorded[-1]['step']} are finite on this machine"
            f" ({process.device.type}); the run recorded: {recorded[-1]['what']}"
        )
    return found


def _copy(run: Path, copy: Path) -> None:
    """The files from which a run continues; of the checkpoints the newest one without damage."""
    (copy / FOLDER).mkdir(parents=True)
    for name in _FILES:
        if (run / name).exists():
            shutil.copy(run / name, copy / name)
    saved = checkpoints(run)
    newest = next((path for path in saved if is_whole(path)), None)
    if newest is not None:
        shutil.copy(newest, copy / FOLDER / newest.name)
    elif saved:
        raise SlipformError(f"every checkpoint in {run / FOLDER} is damaged")


def _first(run: Run, last: int) -> Divergence | None:
    """The first step up to `last` with a number that is not finite."""
    config, state = run.config.train, run.state
    while state.epoch < config.epochs and state.step < last:
        begin_epoch(run)
        set_train_mode(state)
        run.steps.begin()
        left, length = run.train.remaining_batches, len(run.train)
        while left and state.step < last:
            before = {
                name: tensor.detach().cpu().clone()
                for name, tensor in state.model.state_dict().items()
            }
            rate = factor(
                run.config.schedule, state.epoch + (length - left) / length, config.epochs
            )
            count = min(config.accumulate, left)
            left -= count
            loss = float(run.process.all_reduce(run.steps.run([count], [rate]).losses)[0])
            if what := _not_finite(run, loss / run.process.world_size):
                return Divergence(state.step, what, before)
        run.steps.end()
        state.epoch += 1
    return None


def _not_finite(run: Run, loss: float) -> str:
    if not math.isfinite(loss):
        return f"the loss is {loss}"
    if run.state.is_finite():
        return ""
    names = [
        name for name, weight in run.state.model.named_parameters() if not weight.isfinite().all()
    ]
    return f"weights are not finite after it: {', '.join(names[:5])}"
