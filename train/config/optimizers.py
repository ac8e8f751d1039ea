"""[optimizer]: one class for each optimizer, with the settings that it reads.

In: values from TOML. Out: checked settings. This module does not import torch.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from slipform.pipelines.errors import ConfigError
from slipform.train.config.section import Section

__all__ = ["Adam", "AdamW", "Asgd", "Muon", "OptimizerConfig", "RmsProp", "Sgd"]


_Decay = Annotated[float, Field(ge=0, lt=1)]


class _Optimizer(Section):
    """The settings of every optimizer.

    Attributes:
        name: The optimizer.
        lr: Learning rate.
        head_lr: Learning rate of the head; default: lr.
        body_lr: Learning rate of all layers but the head; default: lr.
        norm_bias_lr: Learning rate of BatchNorm's biases; default: lr.
        weight_decay: Weight decay: added to the gradients (L2), or decoupled with adamw and muon.
        decay_all: false: no weight decay of biases and normalization layers.
        layer_decay: Factor of the learning rate from a layer to the layer before it, 0 to 1: the
            first layers learn the slowest, the head with its full rate. 1: no such factor.
    """

    name: str
    lr: float = Field(default=0.01, ge=0)
    head_lr: float | None = Field(default=None, ge=0)
    body_lr: float | None = Field(default=None, ge=0)
    norm_bias_lr: float | None = Field(default=None, ge=0)
    weight_decay: float = Field(default=0.0, ge=0)
    decay_all: bool = True
    layer_decay: float = Field(default=1.0, gt=0, le=1)


class Sgd(_Optimizer):
    """torch.optim.SGD.

    Attributes:
        momentum: Momentum, 0..1.
        nesterov: Whether it is Nesterov's momentum.
    """

    name: Literal["sgd"] = "sgd"
    momentum: float = Field(default=0.0, ge=0, lt=1)
    nesterov: bool = False

    @model_validator(mode="after")
    def _check_nesterov(self) -> Self:
        if self.nesterov and not self.momentum:
            raise ConfigError(
                "optimizer.nesterov = true is a kind of momentum, and optimizer.momentum is 0: give"
                " a momentum above 0, such as 0.9, or nesterov = false"
            )
        return self


class Asgd(_Optimizer):
    """torch.optim.ASGD, with torch's default alpha of 0.75."""

    name: Literal["asgd"] = "asgd"


class _WithMoments(_Optimizer):
    """An optimizer with averages of gradients and of their squares.

    Attributes:
        betas: Decays of the two averages.
        eps: Added to the denominator.
    """

    betas: tuple[_Decay, _Decay] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0)


class Adam(_WithMoments):
    """torch.optim.Adam."""

    name: Literal["adam"] = "adam"


class AdamW(_WithMoments):
    """torch.optim.AdamW."""

    name: Literal["adamw"] = "adamw"


class RmsProp(_Optimizer):
    """torch.optim.RMSprop.

    Attributes:
        alpha: Decay of the average of squared gradients.
        eps: Added to the denominator.
        momentum: Momentum, 0..1.
    """

    name: Literal["rmsprop"] = "rmsprop"
    alpha: float = Field(default=0.99, gt=0, lt=1)
    eps: float = Field(default=1e-8, gt=0)
    momentum: float = Field(default=0.0, ge=0, lt=1)


class Muon(_WithMoments):
    """Muon for the weights of hidden layers; `rest` trains all other parameters.

    betas and eps belong to rest = "adamw".

    Attributes:
        momentum: Momentum, 0..1.
        nesterov: Whether it is Nesterov's momentum.
        unit_filters: Keep the norm of filters at 1; lr is then the relative change in a step.
        newton_schulz_steps: Newton-Schulz iterations, which make a step orthogonal.
        rest: The optimizer of the head, the biases and the normalization layers.
        rest_lr: Learning rate of `rest`; default: lr.
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
        """The settings of the optimizer that `rest` names."""
        shared = {name: getattr(self, name) for name in _Optimizer.model_fields if name != "name"}
        if self.rest_lr is not None:
            shared |= {"lr": self.rest_lr, "body_lr": None}
        if self.rest == "adamw":
            return AdamW(**shared, betas=self.betas, eps=self.eps)
        nesterov = self.nesterov and self.rest_momentum > 0
        return Sgd(**shared, momentum=self.rest_momentum, nesterov=nesterov)


OptimizerConfig = Annotated[Sgd | Asgd | Adam | AdamW | RmsProp | Muon, Field(discriminator="name")]
