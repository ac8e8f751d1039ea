"""[optimizer]: a class for each optimizer, with just the settings that it reads.

In: values from TOML. Out: checked settings; nothing here imports torch.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from slipform.train.config.section import Section

__all__ = ["Adam", "AdamW", "Asgd", "Muon", "OptimizerConfig", "RmsProp", "Sgd"]


class _Optimizer(Section):
    """What every optimizer reads.

    Args:
        name: The optimizer.
        lr: Learning rate.
        head_lr: Learning rate of the head; default: lr.
        body_lr: Learning rate of all but the head; default: lr.
        norm_bias_lr: Learning rate of BatchNorm's biases; default: lr.
        weight_decay: Factor of the weights that is added to their gradients, or, for adamw and
            muon, taken from them.
        decay_all: false: no weight decay for biases and norms.
    """

    name: str
    lr: float = Field(default=0.01, ge=0)
    head_lr: float | None = Field(default=None, ge=0)
    body_lr: float | None = Field(default=None, ge=0)
    norm_bias_lr: float | None = Field(default=None, ge=0)
    weight_decay: float = Field(default=0.0, ge=0)
    decay_all: bool = True


class Sgd(_Optimizer):
    """torch.optim.SGD.

    Args:
        momentum: Share of the last step that is kept.
        nesterov: Nesterov's momentum.
    """

    name: Literal["sgd"] = "sgd"
    momentum: float = Field(default=0.0, ge=0, lt=1)
    nesterov: bool = False


class Asgd(_Optimizer):
    """torch.optim.ASGD, with its own power of 0.75."""

    name: Literal["asgd"] = "asgd"


class _WithMoments(_Optimizer):
    """An optimizer with averages of gradients and of their squares.

    Args:
        betas: Decay of the two averages.
        eps: Added to the denominator.
    """

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0)


class Adam(_WithMoments):
    """torch.optim.Adam."""

    name: Literal["adam"] = "adam"


class AdamW(_WithMoments):
    """torch.optim.AdamW."""

    name: Literal["adamw"] = "adamw"


class RmsProp(_Optimizer):
    """torch.optim.RMSprop.

    Args:
        alpha: Decay of the average of squares.
        eps: Added to the denominator.
        momentum: Share of the last step that is kept.
    """

    name: Literal["rmsprop"] = "rmsprop"
    alpha: float = Field(default=0.99, gt=0, lt=1)
    eps: float = Field(default=1e-8, gt=0)
    momentum: float = Field(default=0.0, ge=0, lt=1)


class Muon(_WithMoments):
    """Muon for the weights of hidden layers; `rest` trains head, biases and what else is left.

    betas and eps are of rest = "adamw".

    Args:
        momentum: Share of the last step that is kept.
        nesterov: Nesterov's momentum.
        unit_filters: Weights stay at norm 1 a filter; lr is the share by which a step turns them.
        newton_schulz_steps: Iterations that make a step orthogonal.
        rest: The optimizer of what is left.
        rest_lr: Learning rate of the rest; default: lr.
        rest_momentum: Momentum of rest = "sgd".
    """

    name: Literal["muon"] = "muon"
    momentum: float = Field(default=0.0, ge=0, lt=1)
    nesterov: bool = False
    unit_filters: bool = False
    newton_schulz_steps: int = Field(default=5, ge=1)
    rest: Literal["adamw", "sgd"] = "adamw"
    rest_lr: float | None = Field(default=None, ge=0)
    rest_momentum: float = Field(default=0.0, ge=0, lt=1)

    def rest_config(self) -> Sgd | AdamW:
        """The optimizer of the rest as a section of its own."""
        shared = {name: getattr(self, name) for name in _Optimizer.model_fields if name != "name"}
        if self.rest_lr is not None:
            shared |= {"lr": self.rest_lr, "body_lr": None}
        if self.rest == "adamw":
            return AdamW(**shared, betas=self.betas, eps=self.eps)
        nesterov = self.nesterov and self.rest_momentum > 0
        return Sgd(**shared, momentum=self.rest_momentum, nesterov=nesterov)


OptimizerConfig = Annotated[Sgd | Asgd | Adam | AdamW | RmsProp | Muon, Field(discriminator="name")]
