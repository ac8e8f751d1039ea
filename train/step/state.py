"""What changes while a model trains, `TrainState`, and what does not, `StepFunctions`.

In: a model, its optimizers and functions. Out: a state that `state_dict` and `load_state_dict`
restore bit for bit. The Loader has the position in the data, which is saved beside it.
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

from slipform.train.step.loss import LossFunction
from slipform.train.step.optim import load_moments

__all__ = ["Averages", "Best", "Forward", "StepFunctions", "TrainState", "averaged_copy"]

Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class StepFunctions:
    """The functions of a step.

    Args:
        forward: The model that learns, perhaps wrapped by DDP and compiled: images [N, 3, S, S] to
            logits [N, C].
        evaluate: The model that is validated, perhaps compiled.
        loss: Of logits, labels and mix; see `loss.make_loss`.
        precision: The dtype of autocast; float32 turns it off.
        device: Where the step computes.
        clip_norm: The largest norm of all gradients together; 0: no limit.
        ema_decay: Decay of the averaged weights, 0..1; 0: there are none.
        flip_test: Evaluation averages the logits of each image and its mirror image.
        compiled: Whether `forward` is compiled.
        frozen_norm: What frozen BatchNorm normalizes by; see `ModelConfig`.
        no_sync: A context in which gradients stay on this process (DDP's no_sync).
    """

    forward: Forward
    evaluate: Forward
    loss: LossFunction
    precision: torch.dtype
    device: torch.device
    clip_norm: float = 0.0
    ema_decay: float = 0.0
    flip_test: bool = False
    frozen_norm: str = "fixed"  # model.frozen_norm
    compiled: bool = False
    no_sync: Callable[[], AbstractContextManager[Any]] = nullcontext

    def autocast(self) -> torch.autocast:
        """A new context in which `precision` holds."""
        return torch.autocast(
            self.device.type, self.precision, enabled=self.precision is not torch.float32
        )


@dataclass
class Best:
    """The best epoch so far.

    Args:
        accuracy: On the validation split, 0..1; -1 before the first epoch.
        epoch: Counted from 1; 0 before the first.
        loss: Of validation or training, as train.select says.
    """

    accuracy: float = -1.0
    epoch: int = 0
    loss: float = math.inf


class Averages:
    """The tensors of an averaged model beside those of the model.

    They are listed once: listing takes longer than launching the kernels. Loading weights changes
    the tensors in place, so the lists stay valid.

    Args:
        ema: The averaged model.
        model: The model that learns.
    """

    def __init__(self, ema: nn.Module, model: nn.Module) -> None:
        pairs = list(zip(ema.state_dict().values(), model.state_dict().values(), strict=True))
        floats = [pair for pair in pairs if pair[0].is_floating_point()]
        others = [pair for pair in pairs if not pair[0].is_floating_point()]
        self.floats = [a for a, _ in floats], [b for _, b in floats]
        self.others = [a for a, _ in others], [b for _, b in others]  # num_batches_tracked


@dataclass
class TrainState:
    """A model in training.

    Args:
        model: The plain net, neither compiled nor wrapped.
        optimizers: Over its parameters.
        scaler: Scales the loss in float16; disabled otherwise.
        functions: How steps are done.
        ema: A copy of the model with averaged weights, or None.
    """

    model: nn.Module
    optimizers: tuple[Optimizer, ...]
    scaler: torch.amp.GradScaler
    functions: StepFunctions
    ema: nn.Module | None = None
    step: int = 0  # of the optimizer, over the whole run
    epoch: int = 0  # epochs trained and validated
    best: Best = field(default_factory=Best)
    epochs_since_best: int = 0  # epochs since the best one, or since the weights went back to it
    best_weights: dict[str, Tensor] | None = None  # kept only for restart_from_best_after
    averages: Averages | None = None  # made by the first step that averages weights

    @property
    def evaluated(self) -> nn.Module:
        """The model that is validated and saved: the averaged one where there is one."""
        return self.model if self.ema is None else self.ema

    def state_dict(self) -> dict[str, Any]:
        """The state as tensors and plain values, which torch.load reads with weights_only."""
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
            saved: What `state_dict` gave, in this version or an earlier one.
        """
        self.model.load_state_dict(saved["model"])
        for optimizer, moments in zip(self.optimizers, saved["optimizers"], strict=True):
            load_moments(optimizer, moments)
        if saved["scaler"] and self.scaler.is_enabled():
            self.scaler.load_state_dict(saved["scaler"])
        if self.ema is not None:  # a run that averages only now starts from the model
            self.ema.load_state_dict(saved["ema"] or saved["model"])
        self.step = saved["step"]
        self.best = Best(**saved["best"])
        self.epoch = saved["epoch"]
        # Checkpoints written before version 0.2 call it "fruitless".
        self.epochs_since_best = saved.get("epochs_since_best", saved.get("fruitless", 0))
        self.best_weights = saved["best_weights"]

    def is_best(self, accuracy: float, loss: float = math.inf, select: str = "accuracy") -> bool:
        """Record the validation of an epoch.

        Args:
            accuracy: On val.
            loss: The one that decides: on val or in training.
            select: What decides: `train.select`. With "last" every epoch is the best.

        Returns:
            Whether it is the best so far.
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

    def restart_from(self, weights: dict[str, Tensor]) -> None:
        """Go back to earlier weights, without momenta: these belong to other weights.

        Args:
            weights: A state_dict of the model.
        """
        self.model.load_state_dict(weights)
        if self.ema is not None:
            self.ema.load_state_dict(weights)
        for optimizer in self.optimizers:
            optimizer.state.clear()
        self.epochs_since_best = 0

    @torch.no_grad()
    def is_finite(self) -> bool:
        """Whether all weights are finite. Waits for the device."""
        sums = torch.stack([parameter.float().sum() for parameter in self.model.parameters()])
        return bool(sums.isfinite().all())


def averaged_copy(model: nn.Module) -> nn.Module:
    """A copy of a model for exponentially averaged weights.

    Args:
        model: The plain net.

    Returns:
        The copy, in evaluation mode, without gradients.
    """
    return copy.deepcopy(model).eval().requires_grad_(False)
