"""All that changes while a model trains: `TrainState`. What does not is a `StepFunctions`.

In: a model, its optimizers and functions. Out: after `state_dict` and `load_state_dict`, the same
training, bit for bit. The position in the data belongs to the Loader, and is saved beside this.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from slipform.train.step.loss import LossFunction
from slipform.train.step.optim import load_moments

Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class StepFunctions:
    """How a step is done. `forward` is the model as it is called, perhaps compiled and wrapped by
    DDP."""

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
    no_sync: Callable[[], AbstractContextManager[Any]] = (
        nullcontext  # DDP's no_sync: gradients stay on this process
    )

    def autocast(self) -> torch.autocast:
        return torch.autocast(
            self.device.type, self.precision, enabled=self.precision is not torch.float32
        )


@dataclass
class Best:
    """The best epoch so far by validation accuracy, counted from 1; 0 before the first."""

    accuracy: float = -1.0
    epoch: int = 0


class Averages:
    """The tensors of an averaged model beside those of the model: listing them takes longer than
    launching their kernels. Loading weights changes them in place."""

    def __init__(self, ema: nn.Module, model: nn.Module) -> None:
        pairs = list(zip(ema.state_dict().values(), model.state_dict().values(), strict=True))
        floats = [pair for pair in pairs if pair[0].is_floating_point()]
        others = [pair for pair in pairs if not pair[0].is_floating_point()]
        self.floats = [a for a, _ in floats], [b for _, b in floats]
        self.others = [a for a, _ in others], [b for _, b in others]  # num_batches_tracked


@dataclass
class TrainState:
    """model: the plain module, neither compiled nor wrapped. ema: a copy of it with averaged
    weights, or None."""

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
        """Tensors and plain values only, so that it loads with weights_only."""
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
        self.model.load_state_dict(saved["model"])
        for optimizer, moments in zip(self.optimizers, saved["optimizers"], strict=True):
            load_moments(optimizer, moments)
        if saved["scaler"] and self.scaler.is_enabled():
            self.scaler.load_state_dict(saved["scaler"])
        if self.ema is not None:  # switched on only now, it starts from the model as it is
            self.ema.load_state_dict(saved["ema"] or saved["model"])
        self.step = saved["step"]
        self.best = Best(**saved["best"])
        self.epoch = saved["epoch"]
        # Checkpoints written before version 0.2 call it "fruitless".
        self.epochs_since_best = saved.get("epochs_since_best", saved.get("fruitless", 0))
        self.best_weights = saved["best_weights"]

    def is_best(self, accuracy: float) -> bool:
        """Whether the epoch just validated is the best so far; remembers it, or counts one more
        without success."""
        if accuracy > self.best.accuracy:
            self.best, self.epochs_since_best = Best(accuracy, self.epoch), 0
            return True
        self.epochs_since_best += 1
        return False

    def restart_from(self, weights: dict[str, Tensor]) -> None:
        """Back to earlier weights. Momentum is forgotten: it points where those weights did not
        lead."""
        self.model.load_state_dict(weights)
        if self.ema is not None:
            self.ema.load_state_dict(weights)
        for optimizer in self.optimizers:
            optimizer.state.clear()
        self.epochs_since_best = 0

    @torch.no_grad()
    def is_finite(self) -> bool:
        """Waits for the device: False where any weight is infinite or not a number."""
        sums = torch.stack([parameter.float().sum() for parameter in self.model.parameters()])
        return bool(sums.isfinite().all())


def averaged_copy(model: nn.Module) -> nn.Module:
    """A copy of the model for exponentially averaged weights, in evaluation mode, without
    gradients."""
    return copy.deepcopy(model).eval().requires_grad_(False)
