"""The sections of a run's configuration: one frozen, strict class for each table of a recipe.

In: values from TOML. Out: checked settings with the field's usual defaults; nothing here imports
torch. [optimizer], [schedule] and [loss] have a class for each name, with just the settings that it
reads. A number of 0 turns the optional parts off (clip_norm, ema, early_stop_after, ...), since
TOML has no null.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from slipform.pipelines.errors import ConfigError
from slipform.train.config.optimizers import OptimizerConfig
from slipform.train.config.section import Section

__all__ = [
    "VARIANTS",
    "Compile",
    "Constant",
    "Cosine",
    "CrossEntropy",
    "DataConfig",
    "Linear",
    "LossConfig",
    "MultiMargin",
    "MultiStep",
    "OneCycle",
    "Precision",
    "ScheduleConfig",
    "Step",
    "TrainConfig",
]

Precision = Literal["auto", "fp32", "bf16", "fp16"]
Compile = Literal["auto", "on", "off", "graphs"]


class DataConfig(Section):
    """[data]: where the betons are and how they are read.

    Args:
        folder: The dataset folder; the command fills it in.
        executor: What renders the batches.
        threads: Threads of the executor; 0: what `bench tune` found here, else all cores of this
            process.
        prefetch: Batches made ahead; 0: what `bench tune` found here, else 2.
        on_bad: An image that cannot be decoded ends the run, or is left out.
        decode_scale: Decode large photos at 1/2, 1/4 or 1/8 of their size where the crop allows it:
            "auto" or "off". See `Loader`.
        block: Samples that stay near each other in the order, for data larger than memory; 0: none.
    """

    folder: str = ""
    executor: Literal["auto", "dali", "host", "resident"] = "auto"
    threads: int = Field(default=0, ge=0)
    prefetch: int = Field(default=0, ge=0)
    on_bad: Literal["error", "skip"] = "error"
    decode_scale: Literal["auto", "off"] = "auto"
    block: int = Field(default=0, ge=0)


class _Schedule(Section):
    """What every schedule reads. Epochs may be fractions.

    Args:
        name: How the learning rate changes over the run.
        warmup_epochs: Epochs in which the learning rate rises in a line.
        warmup_factor: Where the warm-up starts, as a share of the learning rate.
    """

    name: str
    warmup_epochs: float = Field(default=0.0, ge=0)
    warmup_factor: float = Field(default=0.01, ge=0, le=1)


class Constant(_Schedule):
    """The learning rate stays."""

    name: Literal["constant"] = "constant"


class Step(_Schedule):
    """Times gamma every step_size epochs.

    Args:
        step_size: Epochs from one change to the next.
        gamma: Factor of the learning rate at each change.
    """

    name: Literal["step"] = "step"
    step_size: int = Field(default=20, ge=1)
    gamma: float = Field(default=0.1, gt=0)


class MultiStep(_Schedule):
    """Times gamma at each of the milestones.

    Args:
        milestones: Epochs at whose end the learning rate changes.
        gamma: Factor of the learning rate at each change.
    """

    name: Literal["multistep"] = "multistep"
    milestones: tuple[int, ...] = ()
    gamma: float = Field(default=0.1, gt=0)


class _Falling(_Schedule):
    """A schedule that ends at a share of the learning rate.

    Args:
        final_factor: Share of the learning rate at the end.
    """

    final_factor: float = Field(default=0.0, ge=0)


class Cosine(_Falling):
    """Half a cosine down to final_factor."""

    name: Literal["cosine"] = "cosine"


class Linear(_Falling):
    """A line down to final_factor."""

    name: Literal["linear"] = "linear"


class OneCycle(_Schedule):
    """From lr / start_divisor up to lr, then down to lr / start_divisor / end_divisor.

    Args:
        rise: Share of the run in which the learning rate rises.
        start_divisor: lr by this is where it starts.
        end_divisor: The start by this is where it ends.
    """

    name: Literal["one_cycle"] = "one_cycle"
    rise: float = Field(default=0.3, gt=0, lt=1)
    start_divisor: float = Field(default=25.0, ge=1)
    end_divisor: float = Field(default=1e4, ge=1)


class CrossEntropy(Section):
    """Cross entropy.

    Args:
        name: The loss.
        label_smoothing: Share of each label that all classes get (Szegedy et al., 2016).
    """

    name: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)


class MultiMargin(Section):
    """torch.nn.MultiMarginLoss.

    Args:
        name: The loss.
        margin: By how much the right class' logit has to exceed each other one.
        power: Power of what is missing (torch's p).
    """

    name: Literal["multi_margin"] = "multi_margin"
    margin: float = Field(default=1.0, gt=0)
    power: Literal[1, 2] = 1


class TrainConfig(Section):
    """[train]: the loop.

    Args:
        epochs: Passes over the training images.
        batch_size: Images of one process and one forward pass; "auto": as many as fit.
        accumulate: Batches per step of the optimizer.
        clip_norm: Largest norm of a step's gradients; 0: any.
        ema: Decay of averaged weights, which are evaluated and kept; 0: none.
        precision: Number format of the forward and backward pass. "auto": the fastest in a few
            steps of this net, see auto_seconds.
        compile: torch.compile; "graphs": into CUDA graphs, for nets so small that launching their
            kernels takes the time. "auto": on a GPU, or what `bench tune` found.
        channels_last: Memory format of images and convolutions. "auto": the faster one in a few
            steps.
        auto_seconds: Most seconds to spend on these steps, which also take no more than 2 % of the
            run's time; 0: none, "auto" is then float32 on a CPU, bfloat16 on a GPU that has it.
        tf32: Matrix products of float32 on GPUs that have TF32.
        deterministic: The same bits in each run, on the same machine; slower.
        sync_batch_norm: BatchNorm over the batches of all processes, so that N train as one.
        seed: Seed of weights, order and augmentation.
        select: The epoch that is kept and tested: the best one by "accuracy" or "loss" on val or
            by "train_loss", or the "last" one. Without val the first two mean the last one.
        early_stop_after: Epochs without a better one, see select, that end the run; 0: none do.
        restart_from_best_after: Epochs without a better one after which training goes on from the
            best weights; 0: never.
        unfreeze_at_epoch: From this epoch on all layers learn; 0: never.
        flip_test: Evaluation averages the logits of each image and its mirror image.
        keep_checkpoints: How many of the newest checkpoints stay.
        checkpoint_every_steps: Steps from one checkpoint to the next, beside the one after each
            epoch; 0: none.
        log_every_steps: Steps from one reading of the device's losses to the next.
    """

    epochs: int = Field(default=20, ge=1)
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = 128
    accumulate: int = Field(default=1, ge=1)
    clip_norm: float = Field(default=0.0, ge=0)
    ema: float = Field(default=0.0, ge=0, lt=1)
    precision: Precision = "auto"
    compile: Compile = "auto"
    channels_last: bool | Literal["auto"] = "auto"
    auto_seconds: float = Field(default=30.0, ge=0)
    tf32: bool = True
    deterministic: bool = False
    sync_batch_norm: bool = True
    seed: int = Field(default=0, ge=0)
    select: Literal["accuracy", "loss", "train_loss", "last"] = "accuracy"
    early_stop_after: int = Field(default=0, ge=0)
    restart_from_best_after: int = Field(default=0, ge=0)
    unfreeze_at_epoch: int = Field(default=0, ge=0)
    flip_test: bool = False
    keep_checkpoints: int = Field(default=2, ge=1)
    checkpoint_every_steps: int = Field(default=0, ge=0)
    log_every_steps: int = Field(default=20, ge=1)

    @model_validator(mode="after")
    def _check_select(self) -> Self:
        for name in ("early_stop_after", "restart_from_best_after"):
            if self.select == "last" and getattr(self, name):
                raise ConfigError(
                    f'train.{name} waits for a better epoch, and with train.select = "last" there'
                    " is none: leave one of them out"
                )
        return self


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
