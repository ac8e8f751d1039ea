"""`RunConfig`: all settings of a run, checked.

In: settings as nested dictionaries. Out: a frozen object; two equal ones, on equal data, give the
same training. A mistake raises ConfigError with the key's path and the nearest right one.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from pydantic import BaseModel, ValidationError

from slipform.models.spec import ModelConfig
from slipform.pipelines.errors import ConfigError
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.train.config.explain import explain
from slipform.train.config.layers import Settings, current, laid_over, nested, with_names
from slipform.train.config.optimizers import OptimizerConfig, Sgd
from slipform.train.config.section import Section
from slipform.train.config.sections import (
    Constant,
    CrossEntropy,
    DataConfig,
    LossConfig,
    ScheduleConfig,
    TrainConfig,
)

__all__ = ["RunConfig", "check"]


class RunConfig(Section):
    """A whole run: one attribute for each table of a recipe.

    Attributes:
        description: In words.
        data: How the dataset is read.
        augment: An Augmentation.
        model: A ModelConfig.
        optimizer, schedule, loss: One class for each choice, with its settings.
        train: The loop: epochs, batch_size, precision, seed and so on.

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
    train: TrainConfig = TrainConfig()

    def replace(self, name: str, value: Any) -> RunConfig:
        """The same configuration with one setting changed, checked.

        Args:
            name: A setting ("train.seed") or a section ("augment").
            value: As TOML would give it, or an object of the section's class. A new name of an
                optimizer, schedule or loss keeps the settings that it reads too.

        Raises:
            ConfigError: There is no such setting, or the value does not fit.

        Example:
            >>> RunConfig().replace("train.seed", 3).train.seed
            3
        """
        settings = self.model_dump()
        plain = _plain(value)
        if isinstance(plain, dict) and "." not in name:
            return check({**settings, name: plain})
        return check(laid_over(settings, nested(name, plain)))


def check(settings: Settings) -> RunConfig:
    """Settings, nested as TOML gives them, as a RunConfig.

    Args:
        settings: What is left out gets its default.

    Raises:
        ConfigError: A setting is unknown or does not fit; the text names the first one.
    """
    try:
        # JSON, since pydantic's strict mode takes a list for a tuple there and only there.
        text = json.dumps(with_names(current(settings)), default=str)
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
