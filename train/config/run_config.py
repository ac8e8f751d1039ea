"""`RunConfig`: all settings of a run, checked.

In: settings as nested dictionaries. Out: a frozen object. Equal configurations and equal data give
the same training. ConfigError names a wrong setting and the most similar right one.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Self

from pydantic import BaseModel, ValidationError, model_validator

from slipform.models.spec import ModelConfig
from slipform.pipelines.errors import ConfigError
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.train.config.distill import DistillConfig
from slipform.train.config.explain import explain
from slipform.train.config.image_sizes import check_sizes
from slipform.train.config.layers import Settings, current, laid_over, nested, with_names
from slipform.train.config.losses import CrossEntropy, LossConfig
from slipform.train.config.optimizers import OptimizerConfig, Sgd
from slipform.train.config.own_input import with_own_input
from slipform.train.config.records import RecordsConfig
from slipform.train.config.schedules import Constant, ScheduleConfig
from slipform.train.config.section import Section
from slipform.train.config.sections import DataConfig, TrainConfig

__all__ = ["RunConfig", "check"]


class RunConfig(Section):
    """All settings of a run: one attribute for each table of a recipe.

    Attributes:
        description: A description of the run.
        data: The dataset folder, and how it is read.
        augment: The augmentation of the training images, and the size of all images without
            train.image_sizes and train.eval_size.
        model: The net, its weights and its frozen layers.
        optimizer: The optimizer: one class for each name.
        schedule: The schedule of the learning rate: one class for each name.
        loss: The loss: one class for each name.
        distill: A teacher, whose answers the run learns from beside the labels.
        train: The training loop: epochs, batch_size, precision, seed and so on.
        records: Where the numbers of the run are kept.

    Raises:
        pydantic.ValidationError: A section has the wrong class. `check` and `replace` raise
            ConfigError instead.

    Example:
        >>> import slipform as sf
        >>> config = sf.RunConfig().replace("optimizer", {"name": "adamw", "lr": 0.001})
        >>> config.replace("train.seed", 3).train.seed
        3
    """

    description: str = ""
    data: DataConfig = DataConfig()
    augment: Augmentation = Augmentation()
    model: ModelConfig = ModelConfig()
    optimizer: OptimizerConfig = Sgd()
    schedule: ScheduleConfig = Constant()
    loss: LossConfig = CrossEntropy()
    distill: DistillConfig = DistillConfig()
    train: TrainConfig = TrainConfig()
    records: RecordsConfig = RecordsConfig()

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        check_sizes(self)
        return self

    def replace(self, name: str, value: Any) -> RunConfig:
        """A copy of the configuration with one setting changed, checked.

        Args:
            name: A setting ("train.seed") or a section ("augment").
            value: A value as in TOML, or an object of the section's class. A new optimizer.name,
                schedule.name or loss.name keeps the settings that both names have.

        Raises:
            ConfigError: There is no such setting, or the value is not allowed.

        Example:
            >>> RunConfig().replace("train.seed", 3).train.seed
            3
        """
        settings = self.model_dump()
        plain = _plain(value)
        if isinstance(plain, dict) and "." not in name:
            return check({**settings, name: plain})
        return check(laid_over(settings, nested(name, plain)))

    def unweighted(self) -> RunConfig:
        """A copy whose loss has no weights of classes, for steps whose loss nobody reads."""
        return self.model_copy(update={"loss": self.loss.unweighted()})


def check(settings: Settings) -> RunConfig:
    """Check settings, and make a RunConfig of them.

    Args:
        settings: Nested dictionaries, as TOML gives them. A missing setting gets its default.

    Raises:
        ConfigError: A setting is unknown, or its value is not allowed. The text names the first.
    """
    try:
        # JSON: it is the only input for which pydantic's strict mode accepts a list as a tuple.
        text = json.dumps(with_names(with_own_input(current(settings))), default=str)
        return RunConfig.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise ConfigError(explain(error, RunConfig)) from error
    except RecursionError:
        raise ConfigError("the settings are nested too deeply") from None


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return value
