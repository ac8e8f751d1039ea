"""Own augmentations: how they are registered, and the setting `augment.own`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from slipform.pipelines.errors import ConfigError
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.plan import Plan, draw
from slipform.pipelines.plan.registry import REGISTERED, bound, register_augmentation
from slipform.train.config.recipe import Recipe, parse_config
from slipform.train.config.resolve import resolve
from slipform.train.config.run_config import RunConfig
from slipform.train.config.toml import to_toml
from tests.pipelines import own as registered


def _draw(spec: Augmentation) -> Plan:
    sides = np.full(8, 40, np.int32)
    return draw(spec.resolved([], []), np.arange(8), sides, sides, 3, 2)


def test_registering(monkeypatch: pytest.MonkeyPatch) -> None:
    def exchange(plan: Plan, uniforms: np.ndarray) -> Plan:
        raise NotImplementedError

    with pytest.raises(ConfigError, match=r"tests.pipelines.own has registered .* \"exchange\""):
        register_augmentation(exchange)

    def short(plan: Plan) -> Plan:
        raise NotImplementedError

    with pytest.raises(ConfigError, match='augmentation "short" must take plan and uniforms'):
        register_augmentation(short)
    with pytest.raises(ConfigError, match="define it with def"):
        register_augmentation(lambda plan, uniforms: plan)

    def twice(plan: Plan, uniforms: np.ndarray) -> Plan:
        return plan

    monkeypatch.setitem(REGISTERED, "twice", REGISTERED[registered.turn.__name__])  # until the end
    del REGISTERED["twice"]
    assert register_augmentation(twice) is twice
    assert register_augmentation(warps=True)(twice) is twice  # a notebook cell may run again
    spec = Augmentation(crop="random_resized", own={"twice": {}})
    assert not _draw(spec).axis_aligned
    register_augmentation(twice)
    assert _draw(spec).axis_aligned
    assert (_draw(spec).clip == _draw(Augmentation(crop="random_resized")).clip).all()


@pytest.mark.parametrize(
    ("own", "text"),
    [
        ({"exchang": {}}, r'no augmentation "exchang" is registered. Did you mean "exchange"\?'),
        ({"exchange": {"p": 1}}, r'no exchange option "p"'),
        ({"exchange": {"probability": "x"}}, r'augment\.own\.exchange\.probability = "x"'),
        ({"quarter": {"p": 1}}, r'"quarter" has no options: remove augment\.own\.quarter\.p'),
        ({"turn": {}}, r"augment\.own\.turn: missing a required argument: 'degrees'"),
    ],
)
def test_a_wrong_name_or_option(own: dict[str, Any], text: str) -> None:
    spec = Augmentation(own=own)  # is no error yet: evaluation does not need it
    assert spec.evaluation().own == {}
    with pytest.raises(ConfigError, match=text):
        bound(spec.own)


@pytest.mark.parametrize(
    ("own", "text"),
    [
        (0.5, "augment.own = 0.5: give a table"),
        ({"exchange": 0.5}, "augment.own.exchange = 0.5: give a table of options"),
        ({"exchange": {"x": None}}, "augment.own.exchange.x = None: give a text"),
        ({"exchange": {"x": float("inf")}}, "augment.own.exchange.x = inf"),
        ({3: {}}, "augment.own = .*: give a table"),
    ],
)
def test_a_wrong_table(own: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Augmentation(own=own)


def test_values_become_those_of_toml() -> None:
    given = {"b": True, "c": False, "a": {"x": np.float32(0.5), "y": (1, np.int64(2)), "z": "w"}}
    spec = Augmentation(own=given)
    assert spec.own == {"a": {"x": 0.5, "y": [1, 2], "z": "w"}, "b": {}}
    assert list(spec.own) == ["a", "b"]
    assert hash(spec) == hash(Augmentation(own=given))  # it is a key of caches
    assert spec != Augmentation()
    config = RunConfig(augment=spec)
    assert parse_config(to_toml(config), "test") == config
    assert parse_config(to_toml(RunConfig()), "test").augment.own == {}


def test_recipes_and_set() -> None:
    recipe = Recipe("any", {"augment": {"own": {"exchange": {"probability": 0.25}}}})
    assert resolve(recipe).augment.own == {"exchange": {"probability": 0.25}}
    config = resolve(recipe, ["augment.own.exchange.probability=0.5", "augment.own.turn=true"])
    assert config.augment.own == {"exchange": {"probability": 0.5}, "turn": {}}
    assert resolve(recipe, ["augment.own.exchange=false"]).augment.own == {}
    with pytest.raises(ConfigError, match=r'augment\.own = "exchange": give a table'):
        resolve(None, ["augment.own=exchange"])
    with pytest.raises(ConfigError, match=r"augment\.own\.exchange = 0\.5: give a table"):
        resolve(None, ["augment.own.exchange=0.5"])
