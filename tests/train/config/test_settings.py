"""Settings: classes of optimizer, schedule and loss; `replace`; a clear error for each mistake."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipform.pipelines.errors import ConfigError
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.train.config.optimizers import AdamW, Muon, RmsProp, Sgd
from slipform.train.config.recipe import Recipe, load_recipe, read_config
from slipform.train.config.resolve import resolve


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("train.epoch=3", ['"train.epoch"', '"epochs"']),
        ("optimizr.lr=3", ['"optimizr"', '"optimizer"']),
        ("optimizer.name=sdg", ["optimizer.name", '"sdg"', '"sgd"']),
        ("train.epochs=two", ["train.epochs", '"two"', "a whole number"]),
        ("train.batch_size=0", ["train.batch_size = 0", 'at least 1 or "auto"']),
        ("augment.color_jitter.bright=3", ["augment.color_jitter.bright", '"brightness"']),
        ("augment.color_jitter.hue=0.9", ["augment.color_jitter.hue", "0.5"]),
        ("augment.crop=centre", ["augment.crop", '"center"']),
        ("epochs=3", ['"epochs"', '"train.epochs"']),
        ("image_size=64", ['Did you mean "augment.image_size"']),
        ("imagesize=64", ['Did you mean "augment.image_size"']),
        ("optimizer.momentun=0.9", ['"momentum"', 'name = "sgd"']),
        ("optimizer.lr=nan", ["optimizer.lr", "finite"]),
        ("optimizer=3", ["optimizer = 3"]),
        ("model.head=linaer", ['"linaer"', '"linear"']),
        ("augment.scale=[1]", ["augment.scale"]),
        ("train.deterministic=1", ["train.deterministic", "true or false"]),
        ("=3", ["--set =3", "SECTION.KEY=VALUE"]),
        ("loss.name=bce_with_logits", ['Did you mean "bce"?']),
        ("loss=bce_with_logits", ["loss.name =", 'Did you mean "bce"?']),
        ("loss.name=crossentropy", ['Did you mean "cross_entropy"?']),
        ("optimizer.name=adam_w", ['Did you mean "adamw"?']),
        ("optimizer.name=sgd_nesterov", ['Did you mean "sgd"?']),
        ("augment.policy.name=auto_augment", ['Did you mean "auto_augment_imagenet"?']),
        ("augment.policy.name=autoaugment", ['Did you mean "auto_augment_imagenet"?']),
        ("augment.policy=auto_augment", ['Did you mean "auto_augment_imagenet"?']),
        ("augment.policy.name=auto_augment_cifer10", ['Did you mean "auto_augment_cifar10"?']),
        ("augment.policy.name=rand-m9-mstd0.5-inc1", ['Did you mean "rand_augment"?']),
        ("augment.policy=rand-m9-mstd0.5-inc1", ['Did you mean "rand_augment"?']),
    ],
)
def test_a_wrong_setting_names_the_right_one(setting: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(None, [setting])
    for word in words:
        assert word in caught.value.message


@pytest.mark.parametrize(
    "setting",
    ['loss.name=""', "loss.name=qqqq", "loss=bce", "augment.policy=rand_augment", "loss=3"],
)
def test_a_right_word_and_one_that_is_like_no_other_get_no_suggestion(setting: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(None, [setting])
    assert "Did you mean" not in caught.value.message


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (["optimizer.name=adam", "optimizer.momentum=0.9"], ['"adam" has no setting', '"sgd"']),
        (["schedule.gamma=0.5"], ['"constant" has no setting', '"step" or "multistep"']),
        (["loss.power=2"], ['"cross_entropy" has no setting', '"multi_margin"']),
    ],
)
def test_settings_of_another_name_are_refused(sets: list[str], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(None, sets)
    assert all(word in caught.value.message for word in words)


def test_another_name_drops_settings_that_it_lacks() -> None:
    recipe = Recipe("any", {"optimizer": {"lr": 0.5, "momentum": 0.9}})  # sgd, by default
    assert resolve(recipe, ["optimizer.name=adamw"]).optimizer == AdamW(lr=0.5)
    rms = resolve(recipe, ["optimizer.name=rmsprop"]).optimizer
    assert rms == RmsProp(lr=0.5, momentum=0.9)
    assert resolve(recipe).replace("optimizer.name", "adamw").optimizer == AdamW(lr=0.5)


def test_replace_checks_the_value() -> None:
    config = resolve(None, ["optimizer.lr=0.5"])
    changed = config.replace("train.seed", 3)
    assert (changed.train.seed, config.train.seed, changed.optimizer.lr) == (3, 0, 0.5)
    assert config.replace("augment", Augmentation(image_size=64)).augment.image_size == 64
    assert config.replace("model.options.width", 3).model.options == {"width": 3}
    assert config.replace("optimizer", Muon(lr=0.1)).optimizer == Muon(lr=0.1)
    for name, value, words in (
        ("train.seed", -1, "train.seed = -1"),
        ("train.sed", 1, '"seed"'),
        ("augment", {"image_sise": 3}, '"image_size"'),
    ):
        with pytest.raises(ConfigError, match=words):
            config.replace(name, value)


def test_config_files_of_old_runs_list_every_setting_and_recipes_may_not(
    tmp_path: Path,
) -> None:
    before = Path(__file__).parents[1] / "before"
    assert read_config(before / "sgd" / "config.toml").optimizer == Sgd(
        lr=0.05, weight_decay=0.0005, momentum=0.9, nesterov=True
    )
    assert isinstance(read_config(before / "muon" / "config.toml").optimizer, Muon)
    for name in ("sgd", "muon"):  # with --resume and with --recipe
        file = before / name / "config.toml"
        assert resolve(load_recipe(file)) == read_config(file)
    (tmp_path / "mine.toml").write_text((before / "sgd" / "config.toml").read_text())
    with pytest.raises(ConfigError, match='"sgd" has no setting'):
        resolve(load_recipe(tmp_path / "mine.toml"))
    (tmp_path / "config.toml").write_text("[optimizer]\nmomentun = 0.9\n")
    with pytest.raises(ConfigError, match='Did you mean "momentum"'):
        read_config(tmp_path / "config.toml")
    (tmp_path / "config.toml").write_text("")
    with pytest.raises(ConfigError, match="is empty"):
        read_config(tmp_path / "config.toml")


@settings(max_examples=100, deadline=None)
@given(
    text=st.one_of(
        st.text(),
        st.integers(1, 100_000).map(lambda depth: "x = " + "[" * depth),
        st.integers(1, 3000).map(lambda depth: "x = " + "[" * depth + "]" * depth),
        st.integers(1, 3000).map(lambda depth: f"[{'.'.join('a' * depth)}]"),
        st.integers(1, 9000).map(lambda digits: f"[train]\nseed = {'9' * digits}"),
        st.builds(
            "[{}]\n{} = {}".format,
            st.sampled_from(["optimizer", "train", "augment", "model", "loss", "runs", "prep"]),
            st.sampled_from(["name", "lr", "scale", "options", "freeze", "epochs", "normalize"]),
            st.sampled_from(
                ["1", "-1", "nan", '"x"', "[]", "[[1]]", "{a = 1}", "1979-05-27", "true"]
            ),
        ),
    )
)
def test_any_text_is_a_configuration_or_a_clear_error(
    text: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("any") / "config.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    for read in (read_config, lambda path: resolve(load_recipe(path))):
        with contextlib.suppress(ConfigError):
            read(path)


def test_recipe_paths_that_are_not_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "folder.toml").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(ConfigError, match="not a regular file"):
            load_recipe(tmp_path / f"{name}.toml")


@pytest.mark.parametrize("name", ["..", ".", "a/b", ""])
def test_names_of_runs_that_are_no_folder_names_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "sweep.toml").write_text(f'[[runs]]\nname = "{name}"\n')
    with pytest.raises(ConfigError, match="the name of a run is"):
        load_recipe(tmp_path / "sweep.toml")
