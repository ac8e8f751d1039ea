"""The schedules of the learning rate: one class for each name, with the settings that it reads.

In: values from TOML. Out: checked settings. `train.step.schedule` computes the rates.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from slipform.train.config.section import Section

__all__ = [
    "Constant", "Cosine", "Linear", "MultiStep", "OneCycle", "ScheduleConfig", "Step",
]  # fmt: skip


class _Schedule(Section):
    """The settings of every schedule. Epochs may be fractions.

    Attributes:
        name: The schedule of the learning rate.
        warmup_epochs: Epochs of the warm-up, in which the learning rate rises linearly.
        warmup_factor: The learning rate at the start of the warm-up, as a share of lr.
    """

    name: str
    warmup_epochs: float = Field(default=0.0, ge=0)
    warmup_factor: float = Field(default=0.01, ge=0, le=1)


class Constant(_Schedule):
    """The learning rate does not change."""

    name: Literal["constant"] = "constant"


class Step(_Schedule):
    """The learning rate is multiplied by gamma every step_size epochs.

    Attributes:
        step_size: Epochs between two changes.
        gamma: Factor of the learning rate at each change.
    """

    name: Literal["step"] = "step"
    step_size: int = Field(default=20, ge=1)
    gamma: float = Field(default=0.1, gt=0)


class MultiStep(_Schedule):
    """The learning rate is multiplied by gamma at each milestone.

    Attributes:
        milestones: Numbers of epochs after which the learning rate changes.
        gamma: Factor of the learning rate at each change.
    """

    name: Literal["multistep"] = "multistep"
    milestones: tuple[int, ...] = ()
    gamma: float = Field(default=0.1, gt=0)


class _Falling(_Schedule):
    """A schedule that decreases to a share of the learning rate.

    Attributes:
        final_factor: The learning rate at the end, as a share of lr.
    """

    final_factor: float = Field(default=0.0, ge=0)


class Cosine(_Falling):
    """Half a cosine down to final_factor (Loshchilov and Hutter, 2017, without restarts)."""

    name: Literal["cosine"] = "cosine"


class Linear(_Falling):
    """A line down to final_factor."""

    name: Literal["linear"] = "linear"


class OneCycle(_Schedule):
    """From lr / start_divisor up to lr, then down to lr / start_divisor / end_divisor.

    The curve is that of Smith and Topin, 2018, with cosines, as in torch's OneCycleLR.

    Attributes:
        rise: Share of the run in which the learning rate rises.
        start_divisor: The first learning rate is lr divided by this number.
        end_divisor: The last learning rate is the first one divided by this number.
    """

    name: Literal["one_cycle"] = "one_cycle"
    rise: float = Field(default=0.3, gt=0, lt=1)
    start_divisor: float = Field(default=25.0, ge=1)
    end_divisor: float = Field(default=1e4, ge=1)


ScheduleConfig = Annotated[
    Constant | Step | MultiStep | Cosine | Linear | OneCycle, Field(discriminator="name")
]
