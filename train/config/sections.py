"""The sections of a run's configuration: one frozen, strict class for each table of a recipe.

In: values from TOML. Out: checked settings with the field's usual defaults; nothing here imports
torch. [optimizer], [schedule] and [loss] have a class for each name, with just the settings that it
reads. A number of 0 turns the optional parts off (clip_norm, ema, early_stop_after, ...), since
TOML has no null.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "VARIANTS",
    "Adam",
    "AdamW",
    "Asgd",
    "Compile",
    "Constant",
    "Cosine",
    "CrossEntropy",
    "DataConfig",
    "Linear",
    "LossConfig",
    "MultiMargin",
    "MultiStep",
    "Muon",
    "OneCycle",
    "OptimizerConfig",
    "Precision",
    "RmsProp",
    "ScheduleConfig",
    "Section",
    "Sgd",
    "Step",
    "TrainConfig",
]

Precision = Literal["auto", "fp32", "bf16", "fp16"]
Compile = Literal["auto", "on", "off", "graphs"]


class Section(BaseModel):
    """A table of a recipe: frozen, no unknown keys, no conversion of types, no infinite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class DataConfig(Section):
    """[data]: where the betons are and how they are read. The command fills in `folder`.

    threads and prefetch (batches made ahead) of 0 take what `bench tune` found here, else as many
    threads as this process may use, and 2 batches.
    """

    folder: str = ""
    executor: Literal["auto", "dali", "host", "resident"] = "auto"
    threads: int = Field(default=0, ge=0)
    prefetch: int = Field(default=0, ge=0)
    on_bad: Literal["error", "skip"] = "error"
    # samples that stay near each other in the order, for data larger than memory; 0: none do
    block: int = Field(default=0, ge=0)


class _Optimizer(Section):
    """What every optimizer reads. decay_all = false: no weight decay for biases and norms."""

    name: str
    lr: float = Field(default=0.01, ge=0)
    head_lr: float | None = Field(default=None, ge=0)  # of the head; default: lr
    body_lr: float | None = Field(default=None, ge=0)  # of all but the head; default: lr
    norm_bias_lr: float | None = Field(default=None, ge=0)  # of BatchNorm's biases; default: lr
    weight_decay: float = Field(default=0.0, ge=0)
    decay_all: bool = True


class Sgd(_Optimizer):
    """torch.optim.SGD."""

    name: Literal["sgd"] = "sgd"
    momentum: float = Field(default=0.0, ge=0, lt=1)
    nesterov: bool = False


class Asgd(_Optimizer):
    """torch.optim.ASGD, with its own power of 0.75."""

    name: Literal["asgd"] = "asgd"


class _WithMoments(_Optimizer):
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0)


class Adam(_WithMoments):
    """torch.optim.Adam."""

    name: Literal["adam"] = "adam"


class AdamW(_WithMoments):
    """torch.optim.AdamW."""

    name: Literal["adamw"] = "adamw"


class RmsProp(_Optimizer):
    """torch.optim.RMSprop; alpha is its smoothing."""

    name: Literal["rmsprop"] = "rmsprop"
    alpha: float = Field(default=0.99, gt=0, lt=1)
    eps: float = Field(default=1e-8, gt=0)
    momentum: float = Field(default=0.0, ge=0, lt=1)


class Muon(_WithMoments):
    """Muon for the weights of hidden layers; `rest` trains head, biases and what else is left.

    betas and eps are of rest = "adamw", rest_momentum is of rest = "sgd". unit_filters holds the
    weights at norm 1 a filter; lr is then the share by which a step turns them.
    """

    name: Literal["muon"] = "muon"
    momentum: float = Field(default=0.0, ge=0, lt=1)
    nesterov: bool = False
    unit_filters: bool = False
    newton_schulz_steps: int = Field(default=5, ge=1)
    rest: Literal["adamw", "sgd"] = "adamw"
    rest_lr: float | None = Field(default=None, ge=0)  # default: lr
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


class _Schedule(Section):
    """What every schedule reads. Epochs may be fractions. warmup_factor: where the warm-up starts,
    as a share of the learning rate."""

    name: str
    warmup_epochs: float = Field(default=0.0, ge=0)
    warmup_factor: float = Field(default=0.01, ge=0, le=1)


class Constant(_Schedule):
    """The learning rate stays."""

    name: Literal["constant"] = "constant"


class Step(_Schedule):
    """Times gamma every step_size epochs."""

    name: Literal["step"] = "step"
    step_size: int = Field(default=20, ge=1)
    gamma: float = Field(default=0.1, gt=0)


class MultiStep(_Schedule):
    """Times gamma at each of the milestones (epochs)."""

    name: Literal["multistep"] = "multistep"
    milestones: tuple[int, ...] = ()
    gamma: float = Field(default=0.1, gt=0)


class _Falling(_Schedule):
    final_factor: float = Field(default=0.0, ge=0)  # the share of the learning rate at the end


class Cosine(_Falling):
    """Half a cosine down to final_factor."""

    name: Literal["cosine"] = "cosine"


class Linear(_Falling):
    """A line down to final_factor."""

    name: Literal["linear"] = "linear"


class OneCycle(_Schedule):
    """From lr / start_divisor up to lr within `rise` of the run, then down to the start's share of
    1 / end_divisor."""

    name: Literal["one_cycle"] = "one_cycle"
    rise: float = Field(default=0.3, gt=0, lt=1)
    start_divisor: float = Field(default=25.0, ge=1)
    end_divisor: float = Field(default=1e4, ge=1)


class CrossEntropy(Section):
    """Cross entropy with label smoothing (Szegedy et al., 2016)."""

    name: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)


class MultiMargin(Section):
    """torch.nn.MultiMarginLoss; power is its p."""

    name: Literal["multi_margin"] = "multi_margin"
    margin: float = Field(default=1.0, gt=0)
    power: Literal[1, 2] = 1


class TrainConfig(Section):
    """[train]: the loop. batch_size counts the images of one process and one forward pass.

    sync_batch_norm: BatchNorm over the batches of all processes, so that N of them train as one.
    restart_from_best_after: as early_stop_after, but training goes on from the best weights.
    """

    epochs: int = Field(default=20, ge=1)
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = 128
    accumulate: int = Field(default=1, ge=1)  # batches per step of the optimizer
    clip_norm: float = Field(default=0.0, ge=0)
    ema: float = Field(default=0.0, ge=0, lt=1)  # decay of the averaged weights
    precision: Precision = "auto"
    # "graphs": into CUDA graphs, for nets so small that launching their kernels takes the time
    compile: Compile = "auto"
    channels_last: bool = True
    tf32: bool = True  # matrix products of float32 on GPUs that have it
    deterministic: bool = False
    sync_batch_norm: bool = True
    seed: int = Field(default=0, ge=0)
    early_stop_after: int = Field(default=0, ge=0)  # epochs without a better validation accuracy
    restart_from_best_after: int = Field(default=0, ge=0)
    unfreeze_at_epoch: int = Field(default=0, ge=0)
    flip_test: bool = False  # evaluation averages the logits of each image and its mirror image
    keep_checkpoints: int = Field(default=2, ge=1)
    checkpoint_every_steps: int = Field(default=0, ge=0)  # beside the one after each epoch
    log_every_steps: int = Field(default=20, ge=1)  # how often the device is asked for its losses


OptimizerConfig = Annotated[Sgd | Asgd | Adam | AdamW | RmsProp | Muon, Field(discriminator="name")]
ScheduleConfig = Annotated[
    Constant | Step | MultiStep | Cosine | Linear | OneCycle, Field(discriminator="name")
]
LossConfig = Annotated[CrossEntropy | MultiMargin, Field(discriminator="name")]


def _variants(union: object) -> dict[str, type[Section]]:
    classes = get_args(get_args(union)[0])
    return {kind.model_fields["name"].default: kind for kind in classes}


# Section -> name -> class. The first name of a section is its default.
VARIANTS: dict[str, dict[str, type[Section]]] = {
    "optimizer": _variants(OptimizerConfig),
    "schedule": _variants(ScheduleConfig),
    "loss": _variants(LossConfig),
}
