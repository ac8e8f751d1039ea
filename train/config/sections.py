"""The sections of a run's configuration: one frozen, strict class for each table of a recipe.

In: values from TOML. Out: checked settings; usual values are the defaults. This module does not
import torch. [optimizer], [schedule] and [loss] have one class for each name, with the settings
that it reads. The number 0 turns optional parts off (clip_norm, ema, early_stop_after, ...), since
TOML has no null.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from slipform.pipelines.errors import ConfigError
from slipform.pipelines.executors import NAMES
from slipform.pipelines.folds import Fold, FoldRule
from slipform.pipelines.limits import MAX_PREFETCH, MAX_SEED, MAX_THREADS
from slipform.train.config.losses import LossConfig
from slipform.train.config.optimizers import OptimizerConfig
from slipform.train.config.schedules import ScheduleConfig
from slipform.train.config.section import ByClass, Section

__all__ = [
    "VARIANTS",
    "Compile",
    "DataConfig",
    "Precision",
    "TrainConfig",
]

Precision = Literal["auto", "fp32", "bf16", "fp16"]
Compile = Literal["auto", "on", "off", "graphs"]
Sampling = Literal["all", "balanced"] | ByClass

if TYPE_CHECKING:
    Executor = str  # mypy knows only a Literal that is written out
else:
    Executor = Literal["auto", *NAMES]  # the files of executors/


class DataConfig(Section):
    """[data]: the dataset folder, and how it is read.

    Attributes:
        folder: The dataset folder, or its URL in an object store; the command sets it.
        executor: The code that renders the batches.
        threads: Threads of the executor; 0: the number that `bench tune` found for this machine,
            or one for each core of this process (on a GPU two cores less).
        prefetch: Batches rendered ahead; 0: up to 16 small ones on a CPU, else the number that
            `bench tune` found for this machine, or 2.
        on_bad: An image that cannot be decoded ends the run ("error"), or is left out ("skip").
        decode_scale: "auto": the executor host decodes large photos at 1/2, 1/4 or 1/8 of their
            size if the crop allows it. "off": always decode them in full.
        decoder_share: On a GPU, the share of the JPEGs, 0 to 1, for its decoder; CUDA (dali) or CPU
            cores (stream) decode the others. "auto": the share that `bench tune` found. The run
            records it.
        block: Samples of a block, which are read together, for data larger than memory; 0: no
            blocks.
        sampling: "all": each training image once an epoch. "balanced": an epoch draws as many
            images at random, each class as often as the others. Or a table of weights, such as
            { cat = 3.0 }: images of cat are drawn 3 times as often; other classes have 1.
        fold: "2/5": val is the second of five parts of train and val together, and train is the
            rest. "": the splits of prep.
        fold_seed: Seed of the division into folds.
        fold_rule: How images with several labels are divided into folds: by "all_labels" or by the
            "rarest_label" of each image.
    """

    folder: str = ""
    executor: Executor = "auto"
    threads: int = Field(default=0, ge=0, le=MAX_THREADS)
    prefetch: int = Field(default=0, ge=0, le=MAX_PREFETCH)
    on_bad: Literal["error", "skip"] = "error"
    decode_scale: Literal["auto", "off"] = "auto"
    decoder_share: Annotated[float, Field(ge=0, le=1)] | Literal["auto"] = "auto"
    block: int = Field(default=0, ge=0)
    sampling: Sampling = "all"
    fold: str = ""
    fold_seed: int = Field(default=0, ge=0, le=MAX_SEED)
    fold_rule: FoldRule = "all_labels"

    @field_validator("fold", mode="before")
    @classmethod
    def _check_fold(cls, fold: object) -> object:
        if not isinstance(fold, str):
            Fold.parse(fold)  # type: ignore[arg-type]  # it raises, and says what a fold is
        return fold

    @property
    def chosen_fold(self) -> Fold | None:
        """The fold; None: the splits of prep."""
        return Fold.parse(self.fold, self.fold_seed, self.fold_rule)

    @model_validator(mode="after")
    def _check_samples(self) -> Self:
        Fold.parse(self.fold, self.fold_seed)
        if self.block and self.sampling != "all":
            raise ConfigError(
                "data.block reads neighboring images together, and data.sampling draws single ones:"
                ' set data.block = 0, or data.sampling = "all"'
            )
        return self


class TrainConfig(Section):
    """[train]: the training loop.

    Attributes:
        epochs: Passes over the training images.
        batch_size: Images in a forward pass of one process; "auto": as many as fit into memory.
        split_batches: batch_size is that of all processes together, and is divided among them: the
            run has the same batches with any number of processes.
        accumulate: Batches in a step of the optimizer.
        clip_norm: Maximum norm of the gradients of a step; 0: no limit.
        ema: Decay of averaged weights, which are evaluated and saved; 0: no averaging.
        precision: Number format of the forward and backward pass. "auto": the fastest one in a few
            steps of this net; see auto_seconds.
        compile: Use of torch.compile; "graphs": with CUDA graphs, for nets so small that launching
            kernels dominates the time. "auto": on a GPU for runs of three minutes or more; on a CPU
            only if `bench tune` chose it.
        channels_last: Whether images and convolutions have the memory format channels_last. "auto":
            the faster format in a few steps.
        auto_seconds: Maximum number of seconds for these steps; they also take at most 2 % of the
            time of the run. 0: no steps, "auto" is then float32 on a CPU, bfloat16 on a GPU with
            bfloat16.
        tf32: Whether matrix products of float32 use TF32 on GPUs.
        deterministic: The same results, bit for bit, in every run on the same machine; slower.
        sync_batch_norm: BatchNorm over the batches of all processes: N processes train like one.
        seed: Seed of weights, order and augmentation.
        image_sizes: Pairs of an epoch, from 1, and the side of the training images from then on, in
            pixels: [[1, 128], [9, 160]]. Empty: augment.image_size.
        eval_size: Side of the images of val, test and predict; 0: augment.image_size.
        select: The epoch that is saved and tested: the best one by "accuracy" or "loss" on val or
            by "train_loss", or the "last" one. Without val, "accuracy" and "loss" mean "last".
        early_stop_after: Epochs without a better one (see select) after which the run ends; 0:
            never.
        restart_from_best_after: Epochs without a better one after which training restarts from the
            best weights; 0: never.
        restart_clears_momentum: Such a restart also deletes momenta and averages of gradients.
        unfreeze_at_epoch: The epoch from which all layers learn; 0: never.
        freeze_at_epoch: The epoch from which the layers in freeze_late no longer learn; 0: never.
        freeze_late: Names of layers, as for model.freeze.
        flip_test: Evaluation averages the logits of each image and its mirror image.
        shift_test: Evaluation also averages the logits of each image and of two copies, which are
            shifted by so many pixels to the upper left and to the lower right; 0: no copies. The
            image has the same weight as both copies together.
        test_each_epoch: Also measure the test split after each epoch, for curves. The choice of the
            best epoch still depends on val alone.
        keep_checkpoints: Number of checkpoints to keep, the newest ones.
        checkpoint_every_steps: Steps between two checkpoints, in addition to the one after each
            epoch; 0: none.
        checkpoint_every_minutes: Minutes between two checkpoints within an epoch; 0: none.
        steps_per_launch: Steps in one launch on a GPU: a CUDA graph with drawing, rendering,
            forward and backward pass and optimizer. Use it for nets so small that the host limits
            the speed; it needs data.executor = "resident".
        log_every_steps: Steps between two readings of losses from the device.
    """

    epochs: int = Field(default=20, ge=1)
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = 128
    split_batches: bool = False
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
    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    image_sizes: tuple[tuple[int, int], ...] = ()
    eval_size: int = Field(default=0, ge=0)
    select: Literal["accuracy", "loss", "train_loss", "last"] = "accuracy"
    early_stop_after: int = Field(default=0, ge=0)
    restart_from_best_after: int = Field(default=0, ge=0)
    restart_clears_momentum: bool = True
    unfreeze_at_epoch: int = Field(default=0, ge=0)
    freeze_at_epoch: int = Field(default=0, ge=0)
    freeze_late: tuple[str, ...] = ()
    flip_test: bool = False
    shift_test: int = Field(default=0, ge=0, le=64)
    test_each_epoch: bool = False
    keep_checkpoints: int = Field(default=2, ge=1)
    checkpoint_every_steps: int = Field(default=0, ge=0)
    checkpoint_every_minutes: float = Field(default=0.0, ge=0)
    steps_per_launch: int = Field(default=1, ge=1)
    log_every_steps: int = Field(default=20, ge=1)

    @model_validator(mode="after")
    def _check_frozen(self) -> Self:
        if bool(self.freeze_at_epoch) != bool(self.freeze_late):
            raise ConfigError(
                "train.freeze_at_epoch and train.freeze_late belong together: give both or none"
            )
        if self.freeze_at_epoch and self.unfreeze_at_epoch:
            raise ConfigError(
                "train.freeze_at_epoch and train.unfreeze_at_epoch cannot be used together: give"
                " one of them"
            )
        return self

    @model_validator(mode="after")
    def _check_select(self) -> Self:
        for name in ("early_stop_after", "restart_from_best_after"):
            if self.select == "last" and getattr(self, name):
                raise ConfigError(
                    f'train.{name} needs a best epoch, and train.select = "last" has none: remove'
                    " one of them"
                )
        return self


def _variants(union: object) -> dict[str, type[Section]]:
    classes = get_args(get_args(union)[0])
    return {kind.model_fields["name"].default: kind for kind in classes}


# Section -> name -> class. The first name of a section is its default.
VARIANTS: dict[str, dict[str, type[Section]]] = {
    "optimizer": _variants(OptimizerConfig),
    "schedule": _variants(ScheduleConfig),
    "loss": _variants(LossConfig),
}
