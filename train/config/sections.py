"""The parts of a run's configuration: one frozen, strict class per section of a recipe.

In: values from TOML. Out: checked settings with the field's usual defaults; nothing here imports
torch. A number of 0 turns the optional parts off (clip_norm, ema, early_stop_after, ...), since
TOML has no null.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from slipform.models.spec import ModelConfig
from slipform.pipelines.plan.augmentation import Augmentation

Precision = Literal["auto", "fp32", "bf16", "fp16"]
Compile = Literal["auto", "on", "off", "graphs"]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class DataConfig(Section):
    """[data]: where the betons are and how they are read. `folder` is filled in by the command."""

    folder: str = ""
    executor: Literal["auto", "dali", "host", "resident"] = "auto"
    threads: int = Field(
        default=0, ge=0
    )  # 0: as `bench tune` found, else as many as this process may use
    prefetch: int = Field(default=0, ge=0)  # batches made ahead; 0: as `bench tune` found, else 2
    on_bad: Literal["error", "skip"] = "error"
    block: int = Field(
        default=0, ge=0
    )  # samples that stay near each other in the order, for data larger than memory; 0: none do


class OptimizerConfig(Section):
    """[optimizer]: torch.optim's classes and their own defaults, but for the learning rate."""

    name: Literal["sgd", "asgd", "adam", "adamw", "rmsprop", "muon"] = "sgd"
    lr: float = Field(default=0.01, ge=0)
    head_lr: float | None = Field(default=None, ge=0)  # of the head, where it differs from the rest
    body_lr: float | None = Field(default=None, ge=0)  # of all but the head
    norm_bias_lr: float | None = Field(
        default=None, ge=0
    )  # of BatchNorm's biases, where it differs from the rest
    weight_decay: float = Field(default=0.0, ge=0)
    decay_all: bool = True  # false: biases and normalization layers have no weight decay
    momentum: float = Field(default=0.0, ge=0, lt=1)
    nesterov: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0)
    rest: Literal["adamw", "sgd"] = (
        "adamw"  # muon: what trains the head, the biases and the rest of what it does not take
    )
    rest_lr: float | None = Field(default=None, ge=0)  # muon: lr of the rest
    rest_momentum: float = Field(
        default=0.0, ge=0, lt=1
    )  # muon, rest = "sgd": its momentum; nesterov goes for both
    # muon: hold the weights at norm 1 a filter; lr is then the share by which a step turns them
    unit_filters: bool = False
    newton_schulz_steps: int = Field(default=5, ge=1)  # muon
    alpha: float = Field(
        default=0.99, gt=0, lt=1
    )  # rmsprop's smoothing; asgd's power is torch's own 0.75


class ScheduleConfig(Section):
    """[schedule]: see slipform.train.step.schedule for what each name does. Epochs may be
    fractions."""

    name: Literal["constant", "step", "multistep", "cosine", "one_cycle", "linear"] = "constant"
    warmup_epochs: float = Field(default=0.0, ge=0)
    warmup_factor: float = Field(
        default=0.01, ge=0, le=1
    )  # share of the learning rate at the first step of the warm-up
    step_size: int = Field(default=20, ge=1)  # epochs
    milestones: tuple[int, ...] = ()  # epochs
    gamma: float = Field(default=0.1, gt=0)
    final_factor: float = Field(
        default=0.0, ge=0
    )  # cosine and linear end at this share of the learning rate
    rise: float = Field(default=0.3, gt=0, lt=1)  # one_cycle: share of the run until the top
    start_divisor: float = Field(default=25.0, ge=1)  # one_cycle starts at lr / this
    end_divisor: float = Field(default=1e4, ge=1)  # one_cycle ends at its start / this


class LossConfig(Section):
    """[loss]"""

    name: Literal["cross_entropy", "multi_margin"] = "cross_entropy"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    margin: float = Field(default=1.0, gt=0)  # multi_margin
    power: Literal[1, 2] = 1  # multi_margin


class TrainConfig(Section):
    """[train]: the loop. batch_size counts the images of one process and one forward pass."""

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
    # several processes: BatchNorm over all their batches, so that N of them train as one would
    sync_batch_norm: bool = True
    seed: int = Field(default=0, ge=0)
    early_stop_after: int = Field(default=0, ge=0)  # epochs without a better validation accuracy
    restart_from_best_after: int = Field(
        default=0, ge=0
    )  # the same, but goes back to the best weights and on
    unfreeze_at_epoch: int = Field(default=0, ge=0)
    flip_test: bool = False  # evaluation averages the logits of each image and its mirror image
    keep_checkpoints: int = Field(default=2, ge=1)
    checkpoint_every_steps: int = Field(default=0, ge=0)  # beside the one after each epoch
    log_every_steps: int = Field(default=20, ge=1)  # how often the device is asked for its losses


class RunConfig(Section):
    """A whole run. Two equal ones, on equal data, give the same training."""

    description: str = ""
    data: DataConfig = DataConfig()
    augment: Augmentation = Augmentation()
    model: ModelConfig = ModelConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    loss: LossConfig = LossConfig()
    train: TrainConfig = TrainConfig()


# Which settings a choice reads: the rest of its section is set for nothing, and `ignored` says so.
READ_BY = {
    ("optimizer", "sgd"): {"momentum", "nesterov"},
    ("optimizer", "asgd"): set(),
    ("optimizer", "adam"): {"betas", "eps"},
    ("optimizer", "adamw"): {"betas", "eps"},
    ("optimizer", "rmsprop"): {"momentum", "alpha", "eps"},
    ("optimizer", "muon"): {
        *("momentum", "nesterov", "betas", "eps", "unit_filters", "newton_schulz_steps"),
        *("rest", "rest_lr", "rest_momentum"),
    },
    ("schedule", "constant"): set(),
    ("schedule", "step"): {"step_size", "gamma"},
    ("schedule", "multistep"): {"milestones", "gamma"},
    ("schedule", "cosine"): {"final_factor"},
    ("schedule", "linear"): {"final_factor"},
    ("schedule", "one_cycle"): {"rise", "start_divisor", "end_divisor"},
    ("loss", "cross_entropy"): {"label_smoothing"},
    ("loss", "multi_margin"): {"margin", "power"},
}
_READ_BY_ALL = {
    "name",
    "lr",
    "head_lr",
    "body_lr",
    "norm_bias_lr",
    "weight_decay",
    "decay_all",
    "warmup_epochs",
    "warmup_factor",
}


def ignored(config: RunConfig) -> list[str]:
    """The settings that differ from their default and that the chosen optimizer, schedule or loss
    does not read."""
    found = []
    for section in ("optimizer", "schedule", "loss"):
        part = getattr(config, section)
        read = READ_BY[section, part.name] | _READ_BY_ALL
        for name, field in type(part).model_fields.items():
            if name not in read and getattr(part, name) != field.default:
                found.append(
                    f'{section}.{name} = {getattr(part, name)} is not used by "{part.name}"'
                )
    return found
