"""Settings of the augmentation that nothing reads are named."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from slipform.pipelines.errors import ConfigError
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.policy import Policy
from slipform.pipelines.plan.policy_space import space_of
from slipform.pipelines.plan.unread import unread_settings
from slipform.pipelines.toml_text import value_text
from slipform.train.config.recipe import load_recipe, parse_config, recipe_names
from slipform.train.config.resolve import resolve
from slipform.train.config.run_config import RunConfig
from slipform.train.config.toml import to_toml

NAMES = get_args(get_type_hints(Policy)["name"])
OTHER = {
    "num_ops": 3, "magnitude": 5, "num_magnitude_bins": 15, "severity": 5, "mixture_width": 2,
    "chain_depth": 2, "alpha": 0.5, "all_ops": False,
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in NAMES if name != "none"])
def test_a_setting_is_refused_exactly_if_it_changes_nothing(name: str) -> None:
    """The space of operations is all that a policy draws from."""
    assert set(OTHER) == {entry.name for entry in fields(Policy)} - {"name"}
    plain = repr(space_of(Policy(name), 64))
    for setting, value in OTHER.items():
        unchecked = object.__new__(Policy)
        for entry in fields(Policy):
            given = {"name": name, setting: value}.get(entry.name, entry.default)
            object.__setattr__(unchecked, entry.name, given)
        if repr(space_of(unchecked, 64)) != plain:
            assert getattr(Policy(name, **{setting: value}), setting) == value  # type: ignore[arg-type]
            continue
        with pytest.raises(ConfigError) as caught:
            Policy(name, **{setting: value})  # type: ignore[arg-type]
        assert (
            f"augment.policy.{setting} = {value_text(value)} has no effect" in caught.value.message
        )
        assert f'name is "{name}"' in caught.value.message


def test_without_a_policy_every_setting_is_refused() -> None:
    for setting, value in OTHER.items():
        with pytest.raises(ConfigError, match=f"{setting} = .* has no effect"):
            Policy(**{setting: value})  # type: ignore[arg-type]
        Policy(**{setting: getattr(Policy(), setting)})


def test_a_new_name_drops_what_it_does_not_read() -> None:
    config = resolve(None, ["augment.policy.name=rand_augment", "augment.policy.magnitude=5"])
    other = config.replace("augment.policy.name", "augmix")
    assert other.augment.policy == Policy("augmix")
    assert config.replace("augment.policy.num_ops", 1).augment.policy.magnitude == 5
    with pytest.raises(ConfigError, match="magnitude = 5 has no effect"):
        resolve(None, ["augment.policy.name=augmix", "augment.policy.magnitude=5"])


def test_run_folders_with_such_settings_still_load() -> None:
    text = to_toml(RunConfig().replace("augment.policy.name", "trivial_augment_wide"))
    assert '"magnitude" = 9' in text
    old = text.replace('"magnitude" = 9', '"magnitude" = 5')
    assert parse_config(old, "config.toml").augment.policy == Policy("trivial_augment_wide")


@pytest.mark.parametrize(
    ("given", "more"),
    [
        ({"scale": (0.5, 1.0)}, {"crop": "random_resized"}),
        ({"ratio": (1.0, 1.0)}, {"crop": "random_resized"}),
        ({"resize": 100, "crop": "none"}, {"crop": "center"}),
        ({"evaluation_resize": 100, "crop": "none"}, {"crop": "random_resized"}),
        ({"flip_probability": 0.3}, {"flip": "vertical"}),
        ({"flip_probability": 0.3, "flip": "alternating"}, {"flip": "both"}),
        ({"perspective_probability": 0.3}, {"perspective": 0.2}),
        ({"corners": "black"}, {"rotation": 5.0}),
        ({"mix_probability": 0.5}, {"mixup": 0.2}),
        ({"mix_mode": "elem"}, {"cutmix": 0.2}),
        ({"switch_probability": 0.2, "mixup": 0.2}, {"cutmix": 1.0}),
        ({"erase_mode": "pixel"}, {"erase": 0.2}),
    ],
)
def test_settings_that_another_one_turns_off(given: dict[str, Any], more: dict[str, Any]) -> None:
    (said,) = unread_settings(Augmentation(**given))
    name = next(iter(given))
    assert said.startswith(f"augment.{name} = ")
    assert "has no effect: it needs" in said
    assert unread_settings(Augmentation(**given | more)) == []


def test_usual_settings_and_all_recipes_have_an_effect() -> None:
    assert unread_settings(Augmentation()) == []
    for name in recipe_names():
        recipe = load_recipe(name)
        for run in recipe.runs or (None,):
            config = resolve(recipe, ["augment.normalize=half"], None, run)
            assert unread_settings(config.augment) == [], f"{name} {run and run.name}"


def test_train_says_so(shapes: Path, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from slipform.train.cli import train

    words = [str(shapes), "--out", str(tmp_path / "run"), "--recipe", "shapes/demo", "--device"]
    sets = ("train.epochs=1", "augment.image_size=16", "augment.switch_probability=0.1")
    words += ["cpu", *(word for text in sets for word in ("--set", text))]
    result = CliRunner().invoke(train, words)
    assert result.exit_code == 0, result.output
    assert "note: augment.switch_probability = 0.1 has no effect" in result.output
