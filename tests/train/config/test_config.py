"""The configuration: recipes, --set, defaults, errors, and conversion to TOML."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipform.pipelines.errors import ConfigError
from slipform.pipelines.manifest import Manifest, SplitInfo
from slipform.train.config.recipe import Recipe, load_recipe, read_config, recipe_names
from slipform.train.config.resolve import dataset_defaults, defaults_note, resolve
from slipform.train.config.run_config import check
from slipform.train.config.toml import to_toml
from slipform.train.run.resume import differences


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_valid_and_survives_toml(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    for run in (None, *recipe.runs):
        config = resolve(recipe, run=run)
        (tmp_path / "config.toml").write_text(to_toml(config))
        assert read_config(tmp_path / "config.toml") == config
    assert recipe.base["description"]


def test_the_report_s_alexnet() -> None:
    config = resolve(load_recipe("caltech101/alexnet-scratch"))
    assert (config.model.name, config.model.weights) == ("alexnet", "none")
    assert (
        config.augment.image_size,
        config.augment.resize,
        config.augment.crop,
        config.augment.normalize,
    ) == (
        224,
        256,
        "center",
        "half",
    )
    assert (
        config.optimizer.name,
        config.optimizer.lr,
        config.optimizer.momentum,
        config.optimizer.weight_decay,
    ) == (
        "sgd",
        0.01,
        0.9,
        5e-5,
    )
    assert (config.schedule.name, config.schedule.step_size, config.schedule.gamma) == (
        "step",
        20,
        0.1,
    )
    assert (config.train.epochs, config.train.batch_size, config.loss.name) == (
        30,
        256,
        "cross_entropy",
    )


@settings(deadline=None, max_examples=40)
@given(
    description=st.text(),
    lr=st.floats(0, 1e9),
    layers=st.lists(st.text(min_size=1), max_size=3),
    width=st.integers(1, 9),
    mean=st.tuples(*[st.floats(0, 1)] * 3),
)
def test_any_settings_survive_toml(
    description: str,
    lr: float,
    layers: list[str],
    width: int,
    mean: tuple[float, float, float],
    tmp_path: Path,
) -> None:
    base = {
        "description": description,
        "optimizer": {"lr": lr, "head_lr": lr},
        "model": {"freeze": layers, "options": {"width": width, description: [True, "x"]}},
        "augment": {"normalize": [list(mean), [1, 2, 3]], "color_jitter": {"hue": 0.25}},
    }
    config = resolve(Recipe("any", base))
    path = tmp_path / "config.toml"
    path.write_text(to_toml(config), encoding="utf-8")
    assert read_config(path) == config
    assert config.augment.normalize == (mean, (1.0, 2.0, 3.0))


def test_settings_override_the_run_of_a_sweep_and_that_overrides_the_recipe(tmp_path: Path) -> None:
    path = tmp_path / "sweep.toml"
    path.write_text(
        '[optimizer]\nlr = 1\nmomentum = 0.5\n[train]\nseed = 1\n[[runs]]\nname = "a"\noptimizer.lr'
        ' = 2\nreported = { val_accuracy = 0.5 }\n[[runs]]\n"optimizer.lr" = 3\ntrain = { seed ='
        " 2 }\n"
    )
    recipe = load_recipe(path)
    assert [run.name for run in recipe.runs] == ["a", "2"]
    assert [run.reported for run in recipe.runs] == [{"val_accuracy": 0.5}, {}]
    configs = [
        resolve(recipe, ["train.seed=7"] if i == 1 else [], run=run)
        for i, run in enumerate(recipe.runs)
    ]
    assert [(c.optimizer.lr, c.optimizer.momentum, c.train.seed) for c in configs] == [
        (2.0, 0.5, 1),
        (3.0, 0.5, 7),
    ]


def test_another_net_does_not_inherit_the_options_of_the_old_one() -> None:
    recipe = Recipe(
        "any",
        {"model": {"name": "tiny", "options": {"width": 8}, "small_input": True, "head": "mlp"}},
    )
    assert resolve(recipe, ["model.name=tiny"]).model.options == {"width": 8}
    other = resolve(recipe, ["model.options.hidden=3", "model.name=conv"]).model
    assert (other.options, other.small_input, other.head) == ({"hidden": 3}, False, "mlp")


def test_bare_words_and_toml_values() -> None:
    config = resolve(
        None,
        [
            "model.name=resnet18",
            "model.freeze=['a','b']",
            "augment.normalize=dataset",
            "train.batch_size=auto",
        ],
    )
    assert (config.model.name, config.model.freeze, config.train.batch_size) == (
        "resnet18",
        ("a", "b"),
        "auto",
    )
    assert resolve(None, ["description=a b = c"]).description == "a b = c"


def test_unknown_and_broken_recipes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="shapes/demo"):
        load_recipe("shapes/deom")
    with pytest.raises(ConfigError, match=r"no recipe file .*missing\.toml"):
        load_recipe(tmp_path / "missing.toml")
    (tmp_path / "broken.toml").write_text("[train\n")
    with pytest.raises(ConfigError, match="no valid TOML"):
        load_recipe(tmp_path / "broken.toml")


def _manifest(dataset: str, size: int, num: int) -> Manifest:
    info = SplitInfo(
        file="x",
        num_samples=num,
        counts=[num],
        bytes=0,
        sha256="",
        modes={},
        min_height=size,
        min_width=size,
        max_height=size,
        max_width=size,
    )
    return Manifest(
        dataset=dataset, classes=["a"], splits={"train": info}, mean=[0.5] * 3, std=[0.5] * 3
    )


SIZES = {3: 3, 15: 8, 80: 10, 808: 101, 10**6: 128}  # training images -> batch


@pytest.mark.parametrize(
    ("dataset", "size", "model", "image_size", "flip"),
    [
        ("mnist", 28, "cnn", 28, "none"),
        ("cifar10", 32, "resnet18", 32, "horizontal"),
        ("shapes", 96, "resnet18", 64, "horizontal"),
        ("caltech101", 500, "resnet18", 224, "horizontal"),
    ],
)
def test_defaults_fit_the_dataset(
    dataset: str, size: int, model: str, image_size: int, flip: str
) -> None:
    config = resolve(manifest=_manifest(dataset, size, 80))
    assert (config.model.name, config.augment.image_size, config.augment.flip) == (
        model,
        image_size,
        flip,
    )
    assert config.train.batch_size == 10
    sizes = {n: dataset_defaults(_manifest(dataset, size, n))["train"]["batch_size"] for n in SIZES}
    assert sizes == SIZES


def test_a_run_without_a_recipe_reports_its_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    photographs = _manifest("flowers", 500, 808)
    said = defaults_note(resolve(manifest=photographs), photographs)
    assert "resnet18 from scratch, train.epochs = 20, 224 px, batch 101 (not 128: there" in said
    assert "--recipe finetune (the weights of resnet18 are downloaded once)" in said
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth").touch()
    assert "are on this machine" in defaults_note(resolve(manifest=photographs), photographs)
    small = _manifest("cifar10", 32, 50_000)
    said = defaults_note(resolve(manifest=small), small)
    assert "batch" not in said
    assert "finetune" not in said


def test_the_recipe_for_fine_tuning_trains_the_head_first() -> None:
    config = resolve(load_recipe("finetune"))
    assert (config.model.weights, config.model.freeze) == ("imagenet", "all_but_head")
    assert 1 < config.train.unfreeze_at_epoch < config.train.epochs


def test_differences_between_two_configurations() -> None:
    a, b = resolve(None, ["data.folder=x"]), resolve(None, ["data.folder=y", "train.epochs=3"])
    assert differences(a, b) == {"train.epochs": (20, 3)}


def test_importing_the_configuration_does_not_import_torch() -> None:
    code = (
        "import sys, slipform.train.config.resolve, slipform.train.cli; print([m for m in ('torch',"
        " 'numba', 'cv2', 'matplotlib') if m in sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        == "[]\n"
    )


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"model": "resnet18"}, 'Give model.name = "resnet18"'),
        ({"optimizer": "sgd"}, 'Give optimizer.name = "sgd"'),
        ({"train": 3}, "Give train.KEY = VALUE; it has: epochs, batch_size"),
    ],
)
def test_a_section_without_a_key_gives_an_error_with_its_settings(
    settings: dict[str, object], text: str
) -> None:
    with pytest.raises(ConfigError, match="is a section") as caught:
        check(settings)
    assert text in str(caught.value)
