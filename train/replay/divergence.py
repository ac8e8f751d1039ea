"""The step at which a run diverged: the last checkpoint is trained on, one step after another.

In: a run folder. Out: the first step whose loss or weights are not finite, and the weights before
it. The run is continued in a copy of its folder; the folder itself does not change.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from slipform.pipelines.errors import ConfigError, SlipformError
from slipform.pipelines.manifest import FILE_NAME
from slipform.pipelines.mirror.folder import local_folder
from slipform.train.config.run_config import RunConfig
from slipform.train.machine import distributed
from slipform.train.machine.interrupt import StopRequest
from slipform.train.records import read_metrics
from slipform.train.replay.batches import open_rank
from slipform.train.replay.history import history
from slipform.train.run.best import BEST
from slipform.train.run.checkpoint import FOLDER, checkpoints, is_whole, step_of
from slipform.train.run.epoch_changes import begin_epoch
from slipform.train.run.folder import CONFIG
from slipform.train.run.loop import end_epoch, train_epoch
from slipform.train.run.open import Run, open_run
from slipform.train.run.starts import STARTS
from slipform.train.step.step import Launched

__all__ = ["Divergence", "find_divergence"]

_FILES = (CONFIG, FILE_NAME, STARTS, BEST)


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

    A checkpoint is written at the end of every epoch, so this is at most one epoch, unless newer
    checkpoints are damaged. A run of several processes needs as many processes now, started by
    torchrun. Nothing is sent to trackers.

    Args:
        run: The run folder.
        config: The settings of the run; see `run_config`.
        device: "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        ConfigError: The run did not diverge, it had another number of processes, or all numbers up
            to the recorded step are finite here.
        SlipformError: The dataset is missing or was changed, or no checkpoint with the settings of
            the run is without damage.
    """
    recorded = read_metrics(run, "diverged")
    if not recorded:
        raise ConfigError(
            f"{run} did not diverge: its metrics.jsonl has no such record. Give --step N to see the"
            " batch of a step"
        )
    config, segment = config.replace("records.sinks", ()), history(run)[-1]
    start, processes = segment.start, segment.start.world_size
    with open_rank(replace(segment, config=config), torch.device("cpu"), 0, "host"):
        pass  # its errors name --data
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
            _copy(run, copy, start.step)
        process.broadcast_object(None)
        opened = open_run(
            config,
            local_folder(config.data.folder),
            copy,
            process,
            StopRequest(),
            resume=True,
            overwrite=False,
            other_data=False,
            quiet=True,
        )
        with closing(opened):
            found = _first(opened, int(recorded[-1]["step"]))
    if found is None:
        step = recorded[-1]["step"]
        raise ConfigError(
            f"all losses and weights up to step {step} are finite on this machine"
            f" ({process.device.type}); the run recorded on {start.device}: {recorded[-1]['what']}."
            " Validations are not repeated."
            f" Try a machine like that of the run, or see the batch of that step: --step {step}"
        )
    return found


def _copy(run: Path, copy: Path, begun: int) -> None:
    """The files from which a run continues; of the checkpoints the newest one without damage.

    Args:
        run: The run folder.
        copy: The folder to make.
        begun: The step after which the run has its present settings.
    """
    (copy / FOLDER).mkdir(parents=True)
    for name in _FILES:
        if (run / name).exists():
            shutil.copy(run / name, copy / name)
    saved = checkpoints(run)
    newest = next((path for path in saved if is_whole(path)), None)
    if newest is None and saved:
        raise SlipformError(f"every checkpoint in {run / FOLDER} is damaged")
    if begun > (0 if newest is None else step_of(newest)):
        raise SlipformError(
            f"the run was resumed with other settings after step {begun}, and no checkpoint of that"
            " step or a later one is without damage: earlier steps had other settings"
        )
    if newest is not None:
        shutil.copy(newest, copy / FOLDER / newest.name)


def _first(run: Run, last: int) -> Divergence | None:
    """The first step up to `last` with a number that is not finite."""
    try:
        while run.state.epoch < run.config.train.epochs and run.state.step < last:
            begin_epoch(run)
            steps, run.steps = run.steps, _Watched(run, last)
            train_epoch(run)
            run.steps = steps
            end_epoch(run)
    except _Ended as ended:
        return ended.found
    return None


class _Ended(Exception):
    """The training ended.

    Args:
        found: The step that is not finite; None: the last step to train is finite, too.
    """

    def __init__(self, found: Divergence | None) -> None:
        super().__init__()
        self.found = found


class _Watched:
    """The steps of a run, one at a time, up to the first one that is not finite.

    Args:
        run: The run.
        last: The last step to train.
    """

    def __init__(self, run: Run, last: int) -> None:
        self._run, self._steps, self._last = run, run.steps, last

    def begin(self) -> None:
        """See `Steps`."""
        self._steps.begin()

    def run(self, counts: list[int], rates: list[float]) -> Launched:
        """See `Steps`."""
        done = [self._step(*each) for each in zip(counts, rates, strict=True)]
        losses = torch.cat([one.losses for one in done])
        return Launched(losses, torch.cat([one.correct for one in done]), done[-1].images)

    def end(self) -> None:
        """See `Steps`."""
        self._steps.end()

    def forget(self, *, ready: bool = False) -> None:
        """See `Steps`."""
        self._steps.forget(ready=ready)

    def _step(self, count: int, rate: float) -> Launched:
        state, process = self._run.state, self._run.process
        weights = {
            name: tensor.detach().cpu().clone() for name, tensor in state.model.state_dict().items()
        }
        launched = self._steps.run([count], [rate])
        loss = float(process.all_reduce(launched.losses.clone())[0]) / process.world_size
        if what := _not_finite(self._run, loss):
            raise _Ended(Divergence(state.step, what, weights))
        if state.step >= self._last:
            raise _Ended(None)
        return launched


def _not_finite(run: Run, loss: float) -> str:
    if not math.isfinite(loss):
        return f"the loss is {loss}"
    # Validation also reads what a step does not: statistics of batch norms, averaged weights.
    state = run.state
    read = state.model.state_dict()
    if state.evaluated is not state.model:
        averaged = state.evaluated.state_dict().items()
        read |= {f"averaged {name}": tensor for name, tensor in averaged}
    names = [name for name, tensor in read.items() if not tensor.isfinite().all()]
    return f"weights are not finite after it: {', '.join(names[:5])}" if names else ""
