"""Pruning: a trial that is worse than the others at the same epoch ends early.

In: a study of Optuna, the records of a run in progress. Out: the score of each epoch in the study,
and whether the trial ends. A decision is kept in the study before the run is stopped, so a search
that is killed in between takes it up. This module does not import optuna before it is needed.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipform.pipelines.errors import ConfigError
from slipform.train.records import read_metrics

if TYPE_CHECKING:  # it imports all settings, which the help does not need
    from slipform.train.search.space import Range

__all__ = ["PRUNERS", "check_pruning", "is_pruned", "make_pruner", "report", "tell_pruned"]

PRUNERS = ("none", "median", "halving", "hyperband")
_PRUNED = "pruned"  # the attribute of a trial: the epoch after which it was pruned
# Scores of one epoch cannot be compared if these differ.
_FIXED = ("train.epochs", "data.fold", "data.fold_seed", "data.fold_rule")


def check_pruning(name: str, ranges: Sequence[Range]) -> None:
    """Check that the epochs of all trials can be compared.

    Args:
        name: One of PRUNERS.
        ranges: The settings that vary.

    Raises:
        ConfigError: A range varies the number of epochs or the images of val.
    """
    for one in ranges:
        if name != "none" and one.name in _FIXED:
            raise ConfigError(
                f"--prune {name} compares trials epoch by epoch, so {one.name} must be the same in"
                " all of them: give it with --set, or --prune none"
            )


def make_pruner(name: str, epochs: int) -> Any:
    """Make a pruner of Optuna. A step of it is an epoch, from 1 on.

    Args:
        name: One of PRUNERS.
        epochs: The number of epochs of a trial.
    """
    from optuna import pruners

    if name == "median":  # epoch 1 is not judged: it says little about the last one
        return pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=2)
    if name == "halving":
        return pruners.SuccessiveHalvingPruner(min_resource=1)
    if name == "hyperband":
        return pruners.HyperbandPruner(min_resource=1, max_resource=epochs)
    return pruners.NopPruner()


def report(study: Any, number: int, folder: Path, epochs: int) -> bool:
    """Report the epochs that the study does not know, in order.

    Args:
        study: The study.
        number: The number of a trial that is running.
        folder: Its run folder.
        epochs: The number of its epochs. After the last one it is not pruned.

    Returns:
        Whether the trial is to end.
    """
    from optuna.trial import Trial

    known = study.get_trials(deepcopy=False)[number]
    if is_pruned(known):
        return True
    trial = None
    for line in read_metrics(folder, "epoch"):
        epoch, score = line.get("epoch"), line.get("val_accuracy")
        if not isinstance(epoch, int) or epoch in known.intermediate_values or score is None:
            continue
        trial = trial or Trial(study, known._trial_id)
        trial.report(float(score), epoch)
        if epoch < epochs and trial.should_prune():
            trial.set_user_attr(_PRUNED, epoch)
            return True
    return False


def is_pruned(trial: Any) -> bool:
    """Whether it was decided that a trial ends early.

    Args:
        trial: A trial of Optuna.
    """
    return _PRUNED in trial.user_attrs


def tell_pruned(study: Any, number: int, checkpoints: Path) -> str:
    """Tell the study that a trial ended early, and remove its checkpoints.

    Args:
        study: The study.
        number: The number of the trial.
        checkpoints: The folder of its checkpoints.

    Returns:
        A line to print.
    """
    from optuna.trial import TrialState

    study.tell(number, state=TrialState.PRUNED)
    shutil.rmtree(checkpoints, ignore_errors=True)
    known = study.get_trials(deepcopy=False)[number]
    return f"pruned after epoch {known.last_step}: val accuracy {known.value:.4f}"
