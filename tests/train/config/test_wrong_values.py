"""A wrong value of any setting is a ConfigError that names the setting, never a traceback."""

from __future__ import annotations

import math
from typing import Any

import pytest

from slipform.pipelines.errors import ConfigError
from slipform.pipelines.executors import NAMES
from slipform.pipelines.limits import MAX_SEED
from slipform.pipelines.wanted import listed
from slipform.train.config.run_config import RunConfig, check
from slipform.train.config.sections import VARIANTS

EXECUTORS = listed(f'"{name}"' for name in ("auto", *NAMES))
VALUES: tuple[Any, ...] = (
    {}, {"a": 1}, {"a": "b"}, {"a": {}}, {"a": [1]}, {"a": -1.0}, {"cat": 1.0, "dog": "x"},
    [], ["a"], [["a"]], [[[1]]], [[1, 2]], [{"a": 1}], "a word", 7, -1, 0.5, True, None, math.nan,
)  # fmt: skip


def _fields(kind: Any) -> list[str]:
    return list(getattr(kind, "model_fields", None) or kind.__dataclass_fields__)


def _refusal(settings: dict[str, Any]) -> str:
    try:
        check(settings)
    except ConfigError as error:
        return error.message
    return ""


SECTIONS = [
    (name, kind)
    for name, field in RunConfig.model_fields.items()
    for kind in (VARIANTS[name].values() if name in VARIANTS else [field.annotation])
    if name != "description"
]


@pytest.mark.parametrize(
    ("section", "kind"), SECTIONS, ids=[f"{name}-{kind.__name__}" for name, kind in SECTIONS]
)
def test_every_setting_refuses_what_it_cannot_have(section: str, kind: Any) -> None:
    refused = 0
    for name in _fields(kind):
        for value in VALUES:
            settings = {name: value}
            if section in VARIANTS and name != "name":
                settings["name"] = kind.model_fields["name"].default
            said = _refusal({section: settings})
            refused += bool(said)
            assert not said or (name in said and len(said) < 700)
            assert "should" not in said  # a text of pydantic
            assert "alid " not in said
    assert refused > len(VALUES) // 2


@pytest.mark.parametrize("section", RunConfig.model_fields)
def test_every_section_refuses_what_is_no_table(section: str) -> None:
    for value in VALUES[7:]:
        if not (section == "description" and isinstance(value, str)):
            with pytest.raises(ConfigError, match=section):
                check({section: value})


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            {"data": {"executor": {"name": "host"}}},
            f'data.executor = {{ "name" = "host" }}: give {EXECUTORS}.',
        ),
        (
            {"train": {"select": {}}},
            'train.select = {}: give "accuracy", "loss", "train_loss" or "last".',
        ),
        (
            {"data": {"executor": {"a": 1}, "sampling": {"cat": "x"}}},
            f'data.executor = {{ "a" = 1 }}: give {EXECUTORS}.',
        ),
        (
            {"data": {"sampling": {"cat": "x"}}},
            'data.sampling.cat = "x": give a number',
        ),
        (
            {"loss": {"class_weights": {"cat": 1.0, "dog": -2.0}}},
            "loss.class_weights.dog = -2.0: give at least 0",
        ),
        (
            {"data": {"sampling": "balance"}},
            'data.sampling = "balance": give "all" or "balanced" or a table, such as'
            ' { NAME = 2.0 }. Did you mean "balanced"?',
        ),
        (
            {"train": {"image_sizes": 64}},
            "train.image_sizes = 64: give a list of lists of 2 whole numbers",
        ),
        (
            {"train": {"image_sizes": [[1, 64], [2, 96, 3]]}},
            "train.image_sizes has [2, 96, 3]: give a list of lists of 2 whole numbers",
        ),
        (
            {"train": {"image_sizes": [[1]]}},
            "train.image_sizes has [1]: give a list of lists of 2 whole numbers",
        ),
        (
            {"augment": {"scale": 0.5}},
            "augment.scale = 0.5: give a list of 2 numbers",
        ),
        (
            {"data": {"fold": 2}},
            'fold = 2: give NUMBER/COUNT, such as "1/5" to "5/5" for five folds',
        ),
        (
            {"train": {"batch_size": "atuo"}},
            'train.batch_size = "atuo": give a whole number or "auto". Did you mean "auto"?',
        ),
        (
            {"records": {"sinks": "csv"}},
            'records.sinks = "csv": give a list of "tensorboard", "csv", "wandb", "mlflow" or'
            ' "trackio". Write a list: ["csv"]',
        ),
        (
            {"records": {"project": "a/b"}},
            'records.project = "a/b": give a text that matches ^[\\w .-]+$',
        ),
        (
            {"train": {"seed": 1 << 80}},
            f"train.seed = {1 << 80}: give at most {MAX_SEED}",
        ),
        (
            {"augment": {"interpolation": "bicubc"}},
            'there is no augment.interpolation "bicubc". Did you mean "bicubic"? Allowed: bicubic,'
            " bilinear, model.",
        ),
        (
            {"loss": {"name": "bce", "class_weights": "balanced"}},
            '"bce" has no setting "loss.class_weights": it is a setting of "cross_entropy",'
            ' "multi_margin" or "focal". Did you mean "loss.positive_weights"? Remove it, or choose'
            ' another loss.name. section [loss] with name = "bce" has: name, label_smoothing,'
            " positive_weights.",
        ),
        (
            {"optimizer": {"name": "sgd", "nesterov": True}},
            "optimizer.nesterov = true is a kind of momentum, and optimizer.momentum is 0: give a"
            " momentum above 0, such as 0.9, or nesterov = false",
        ),
        (
            {"optimizer": {"name": "adamw", "betas": [0.9, 1.0]}},
            "optimizer.betas has 1.0: give less than 1",
        ),
        (
            {"data": {"on_bad": "x", "sampling": 3}},
            'data.on_bad = "x": give "error" or "skip".',
        ),
    ],
)
def test_the_setting_and_what_it_allows_are_named(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check(settings)
    assert caught.value.message == says


def test_a_long_value_is_cut_off() -> None:
    for settings in ({"data": {"executor": {"a": "x" * 500}}}, {"train": ["y" * 500]}):
        with pytest.raises(ConfigError) as caught:
            check(settings)
        assert len(caught.value.message) < 900
        assert "..." in caught.value.message
