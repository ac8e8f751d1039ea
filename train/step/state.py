"""`TrainState`: everything that changes in training; `StepFunctions`: what does not change.

In: a model, its optimizers and functions. Out: a state that `state_dict` and `load_state_dict`
restore exactly. The Loader has the position in the data; checkpoints contain both.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from slipform.models.weights import load_exactly
from slipform.train.step.distill import Distillation
from slipform.train.step.loss import LossFunction
from slipform.train.step.optim import forget_moments, load_moments

__all__ = ["Averages", "Best", "Forward", "StepFunctions", "TrainState", "averaged_copy"]

Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class StepFunctions:
    """The functions and constants of a step.

    Attributes:
        forward: The model that learns, wrapped by DDP and compiled if the run asks for it: images
            [N, 3, S, S] -> logits [N, C].
        evaluate: The model that is validated, compiled if the run asks for it.
        loss: A function of logits, labels and mix; see `loss.make_loss`.
        precision: The dtype of autocast; float32: no autocast.
        device: The device of the step.
        clip_norm: The maximum norm of all gradients together; 0: no limit.
        ema_decay: The decay of the averaged weights, 0..1; 0: there are none.
        flip_test: Evaluation averages the logits of each image and its mirror image.
        shift_test: Pixels by which evaluation shifts copies of each image; 0: no copies.
        frozen_norm: What frozen BatchNorm layers do in training; see `ModelConfig`.
        compiled: Whether `forward` is compiled.
        no_sync: Returns a context without exchange of gradients between processes (DDP's no_sync).
        weight: The images of this process's batch, divided by the mean over all processes. The
            losses are multiplied by it: their mean over the processes is then that of all images.
    """

    forward: Forward
    evaluate: Forward
    loss: LossFunction
    precision: torch.dtype
    device: torch.device
    clip_norm: float = 0.0
    ema_decay: float = 0.0
    flip_test: bool = False
    shift_test: int = 0
    frozen_norm: str = "fixed"
    compiled: bool = False
    no_sync: Callable[[], AbstractContextManager[Any]] = nullcontext
    weight: float = 1.0

    def autocast(self) -> torch.autocast:
        """A new context of autocast to `precision`."""
        return torch.autocast(
            self.device.type, self.precision, enabled=self.precision is not torch.float32
        )


@dataclass
class Best:
    """The best epoch so far.

    Attributes:
        accuracy: The accuracy on the validation split, 0..1; -1 before the first epoch.
        epoch: The epoch, counted from 1; 0 before the first.
        loss: The loss of validation or of training; train.select decides which.
        thresholds: Several labels for each image: the thresholds with the highest F1 on the
            validation split, one for each class.
    """

    accuracy: float = -1.0
    epoch: int = 0
    loss: float = math.inf
    thresholds: tuple[float, ...] = ()


class Averages:
    """Lists of the tensors of a model and of its copy with averaged weights.

    The lists are made once: making them takes longer than launching the kernels. Loading weights
    changes the tensors in place, so the lists stay valid.

    Args:
        ema: The copy with averaged weights.
        model: The model that learns.

    Attributes:
        floats: Two lists: the tensors of floats of `ema`, and those of `model`.
        others: The same for all other tensors, such as num_batches_tracked.
    """

    def __init__(self, ema: nn.Module, model: nn.Module) -> None:
        pairs = list(zip(ema.state_dict().values(), model.state_dict().values(), strict=True))
        floats = [pair for pair in pairs if pair[0].is_floating_point()]
        others = [pair for pair in pairs if not pair[0].is_floating_point()]
        self.floats = [a for a, _ in floats], [b for _, b in floats]
        self.others = [a for a, _ in others], [b for _, b in others]


@dataclass
class TrainState:
    """A model in training.

    Attributes:
        model: The plain net, neither compiled nor wrapped.
        optimizers: The optimizers of its parameters.
        scaler: Scales the loss in float16; disabled in other precisions.
        functions: The functions of a step.
        ema: A copy of the model with averaged weights; None: there is none.
        step: Steps of the optimizers in the whole run.
        epoch: Epochs that were trained and validated.
        best: The best epoch so far.
        epochs_since_best: Epochs since the best one, or since the weights were reset to it.
        best_weights: The weights of the best epoch; only with train.restart_from_best_after.
        averages: The tensors of `model` and `ema`; the first step that averages weights sets it.
        teacher: The answers of a teacher in the present epoch; None: there is no teacher.
    """

    model: nn.Module
    optimizers: tuple[Optimizer, ...]
    scaler: torch.amp.GradScaler
    functions: StepFunctions
    ema: nn.Module | None = None
    step: int = 0
    epoch: int = 0
    best: Best = field(default_factory=Best)
    epochs_since_best: int = 0
    best_weights: dict[str, Tensor] | None = None
    averages: Averages | None = None
    teacher: Distillation | None = None

    @property
    def evaluated(self) -> nn.Module:
        """The model that is validated and saved: `ema`, or `model` where there is no average."""
        return self.model if self.ema is None else self.ema

    def state_dict(self) -> dict[str, Any]:
        """The state as tensors and plain values; torch.load can read it with weights_only."""
        return {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "scaler": self.scaler.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
            "step": self.step,
            "best": asdict(self.best),
            "epoch": self.epoch,
            "epochs_since_best": self.epochs_since_best,
            "best_weights": self.best_weights,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Load a state in place.

        Args:
            saved: The result of `state_dict`, of this version or an earlier one.
        """
        load_exactly(self.model, saved["model"])
        for optimizer, moments in zip(self.optimizers, saved["optimizers"], strict=True):
            load_moments(optimizer, moments)
        if saved["scaler"] and self.scaler.is_enabled():
            self.scaler.load_state_dict(saved["scaler"])
        if self.ema is not None:
            # A resumed run may have turned averaging on; the average then starts from the model.
            load_exactly(self.ema, saved["ema"] or saved["model"])
        self.step = saved["step"]
        self.best = Best(**saved["best"])
        self.epoch = saved["epoch"]
        # Checkpoints written before version 0.2 call it "fruitless".
        self.epochs_since_best = saved.get("epochs_since_best", saved.get("fruitless", 0))
        self.best_weights = saved["best_weights"]

    def is_best(self, accuracy: float, loss: float = math.inf, select: str = "accuracy") -> bool:
        """Record the validation of an epoch, and return whether it is the best so far.

        Args:
            accuracy: The accuracy on the validation split, 0..1.
            loss: The loss of validation or of training, as `select` says.
            select: The setting train.select: "accuracy", a loss, or "last": every epoch is the
                best.
        """
        if select == "accuracy":
            better = accuracy > self.best.accuracy
        else:
            better = select == "last" or loss < self.best.loss
        if better:
            self.best, self.epochs_since_best = Best(accuracy, self.epoch, loss), 0
            return True
        self.epochs_since_best += 1
        return False

    def restart_from(self, weights: dict[str, Tensor], *, clear_momentum: bool = True) -> None:
        """Reset the model to earlier weights.

        Args:
            weights: A state_dict of the model.
            clear_momentum: Whether to delete momenta and averages of gradients, which are of other
                weights.
        """
        load_exactly(self.model, weights)
        if self.ema is not None:
            load_exactly(self.ema, weights)
        for optimizer in self.optimizers if clear_momentum else ():
            forget_moments(optimizer)
        self.epochs_since_best = 0

    @torch.no_grad()
    def is_finite(self) -> bool:
        """Whether all weights are finite. The host waits for the device."""
        sums = torch.stack([parameter.float().sum() for parameter in self.model.parameters()])
        return bool(sums.isfinite().all())


def averaged_copy(model: nn.Module) -> nn.Module:
    """A copy of a model for averaged weights, in evaluation mode and without gradients.

    Args:
        model: The plain net.
    """
    return copy.deepcopy(model).eval().requires_grad_(False)
