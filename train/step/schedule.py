"""The learning rate over a run: `factor(config, position, epochs)`, a pure function.

In: the [schedule] section and the position in epochs (3.25: a quarter of the fourth epoch is done).
Out: the factor of every group's learning rate. There is no state: a resumed run continues at the
same point of the curve, also with another batch size or number of processes.

`step` and `multistep` count epochs from the start of the run, like torch. The other curves begin at
the end of the warm-up. The warm-up (Goyal et al., 2017, section 2.2) multiplies the value of the
curve by a factor that rises linearly from warmup_factor to 1.
"""

from __future__ import annotations

import bisect
import math

from slipform.train.config.schedules import (
    Constant,
    Cosine,
    Linear,
    MultiStep,
    OneCycle,
    ScheduleConfig,
    Step,
)

__all__ = ["factor"]


def factor(config: ScheduleConfig, position: float, epochs: int) -> float:
    """The factor of the learning rate at a position of the run.

    Args:
        config: The [schedule] section.
        position: Epochs done so far, 0 at the first step; it may be a fraction.
        epochs: Epochs of the run.
    """
    if position < config.warmup_epochs:
        share = position / config.warmup_epochs
        rising = config.warmup_factor + (1 - config.warmup_factor) * share
        return rising * _curve(config, position, 0.0)
    length = epochs - config.warmup_epochs
    done = min((position - config.warmup_epochs) / length, 1.0) if length > 0 else 1.0
    return _curve(config, position, done)


def _curve(config: ScheduleConfig, position: float, done: float) -> float:
    """The factor without warm-up; `done` is the share of the curve that is done, 0 to 1."""
    match config:
        case Constant():
            return 1.0
        case Step():
            return config.gamma ** (int(position) // config.step_size)
        case MultiStep():
            return config.gamma ** bisect.bisect_right(sorted(config.milestones), int(position))
        case Linear():
            return 1.0 + (config.final_factor - 1.0) * done
        case Cosine():  # Loshchilov and Hutter, 2017, without restarts
            return _cosine(1.0, config.final_factor, done)
        case OneCycle():  # Smith and Topin, 2018; two cosine pieces, like torch's OneCycleLR
            start = 1.0 / config.start_divisor
            if done < config.rise:
                return _cosine(start, 1.0, done / config.rise)
            return _cosine(
                1.0, start / config.end_divisor, (done - config.rise) / (1.0 - config.rise)
            )


def _cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * (1.0 + math.cos(math.pi * done)) / 2.0
