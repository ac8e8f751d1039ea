"""The recipes against the reports: each of the 133 runs is there with the very settings and
figures, and trains."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from slipform.models import freeze, registry
from slipform.models.registry import ModelConfig
from slipform.models.weights import LoadReport
from slipform.pipelines.loader import Loader
from slipform.preprocess.cli import main as prep
from slipform.train.config.recipe import Recipe, SweepRun, load_recipe, load_runs, recipe_names
from slipform.train.config.resolve import resolve
from slipform.train.config.run_config import RunConfig
from slipform.train.machine.distributed import Process
from slipform.train.step.build import build_state
from slipform.train.step.step import set_train_mode, train_step
from slipform.train.sweep.sweep import prep_command

SOURCE = Path(__file__).with_name("experiments.toml")
_OPTIONS = (
    "width",
    "final_width",
    "hidden",
    "batch_norm",
    "dropout",
    "norm",
    "size",
    "depth",
    "kernel_sizes",
    "pool",
    "dilation",
)
_SECTION = {
    "augment": ("image_size", "resize", "crop", "padding", "normalize"),
    "model": ("weights", "head", "freeze", "train_layers", "small_input"),
    "model.options": _OPTIONS,
    "optimizer": ("lr", "momentum", "weight_decay", "head_lr", "body_lr"),
    "schedule": ("step_size", "gamma", "milestones"),
    "train": ("epochs", "batch_size", "restart_from_best_after"),
}
_NAMES = {key: f"{section}.{key}" for section, keys in _SECTION.items() for key in keys}
_NAMES |= {key: f"{key}.name" for key in ("model", "optimizer", "schedule", "loss")}
_NAMES |= {"rotation_degrees": "augment.rotation"}
_OPTIONS_OF = {
    "conv": _OPTIONS[:5],
    "mlp_sigmoid": ("hidden",),
    "fc": _OPTIONS[5:8],
    "cnn": _OPTIONS[8:],
}


@dataclass(frozen=True)
class Reported:
    """stated: dotted names to values. augment: what is added to resize and crop. prep: what the
    data must be."""

    study: str
    number: int
    stated: dict[str, Any]
    augment: frozenset[str]
    early_stop: bool
    prep: dict[str, str]
    printed: dict[str, Any]


def _studies() -> dict[str, list[Reported]]:
    """Every study's runs in order."""
    source = {
        study["id"]: study for study in tomllib.loads(SOURCE.read_text(encoding="utf-8"))["study"]
    }
    return {
        id: [_reported(source, id, i, run) for i, run in enumerate(study["runs"], 1)]
        for id, study in source.items()
    }


def _base(source: dict[str, Any], id: str) -> dict[str, Any]:
    """A study's settings on top of those of the study that it builds on."""
    study = source[id]
    below = _base(source, study["same_as"]) if "same_as" in study else {"dataset": study["dataset"]}
    return below | study["base"]


def _reported(source: dict[str, Any], id: str, number: int, run: dict[str, Any]) -> Reported:
    settings = _base(source, id) | run
    printed = settings.pop("reported")
    prep = {key: settings.pop(key) for key in ("dataset", "val_split") if key in settings}
    augment = frozenset(settings.pop("augment", ()))
    early_stop = settings.pop("early_stop", False)
    own = _OPTIONS_OF.get(settings["model"], ())
    pending = {
        key for key in _OPTIONS if key not in own
    }  # a study's base may hold options of its other nets
    if settings["optimizer"] != "sgd":
        pending |= {"momentum"}
    if early_stop:
        pending |= {"epochs"}  # the report's run went beyond its own number
    stated = {_NAMES[key]: value for key, value in settings.items() if key not in pending}
    return Reported(id, number, stated, augment, early_stop, prep, printed)


NUM_CLASSES = {"caltech101": 101, "cifar100": 100, "cifar10": 10, "mnist": 10}
RECIPES = {recipe.study: recipe for recipe in map(load_recipe, recipe_names()) if recipe.study}
REPORTED = [run for runs in _studies().values() for run in runs]
# These train in the default tests: most kinds of nets and of settings. All of them do with -m slow.
FEW = ("A6.5", "B4.3", "C4.4", "D1.1", "D2.3", "D3.2", "E1.5", "E2.4", "E3.5", "E4.3", "E5.4")


def _ours(run: Reported) -> tuple[Recipe, SweepRun]:
    recipe = RECIPES[run.study]
    return recipe, recipe.runs[run.number - 1]


def _name(run: Reported) -> str:
    return f"{run.study}.{run.number}"


def _at(config: RunConfig, dotted: str) -> Any:
    value: Any = config.model_dump()
    for key in dotted.split("."):
        value = value[key]
    return list(value) if isinstance(value, tuple) else value


def test_the_file_of_the_reports_was_read() -> None:
    assert (len(_studies()), len(REPORTED)) == (29, 133)


def test_every_recipe_of_a_study_has_exactly_its_runs() -> None:
    assert {study: len(runs) for study, runs in _studies().items()} == {
        s: len(recipe.runs) for s, recipe in RECIPES.items()
    }


@pytest.mark.parametrize("run", REPORTED, ids=_name)
def test_a_run_has_the_report_s_settings_and_figures(run: Reported) -> None:
    recipe, ours = _ours(run)
    config = resolve(recipe, run=ours)
    assert ours.reported == run.printed
    stated = dict(run.stated)
    stated["model.name"] = ModelConfig(stated["model.name"]).name  # the report's "custom"
    weights = stated.pop("model.weights")
    assert config.model.weights == weights or (weights, config.model.weights) == (
        "imagenet",
        "IMAGENET1K_V1",
    )
    if stated.get("model.freeze") == "none":
        assert config.model.freeze in ((), "none")
        del stated["model.freeze"]
    assert {key: _listed(_at(config, key)) for key in stated} == stated
    assert (config.train.early_stop_after > 0) == run.early_stop
    assert recipe.prep["dataset"] == run.prep["dataset"]
    assert recipe.prep.get("val_split", "stratified") == run.prep.get("val_split", "stratified")
    _check_augmentation(config, run)


def _listed(value: Any) -> Any:
    return [_listed(item) for item in value] if isinstance(value, tuple | list) else value


def _check_augmentation(config: RunConfig, run: Reported) -> None:
    """What is listed is switched on, and nothing else is."""
    augment = config.augment
    flip = {
        "horizontal": "horizontal_flip" in run.augment,
        "vertical": "vertical_flip" in run.augment,
    }
    assert augment.flip == (
        "both" if all(flip.values()) else next((name for name, on in flip.items() if on), "none")
    )
    jitter = augment.color_jitter
    assert ("color_jitter" in run.augment) == all(
        (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
    )
    for name in ("rotation", "perspective", "grayscale"):
        assert (name in run.augment) == (getattr(augment, name) > 0), name
    assert augment.crop == run.stated.get("augment.crop", "center")
    assert augment.padding == run.stated.get("augment.padding", 0)
    assert (augment.mixup, augment.cutmix, augment.erase, augment.shear) == (0, 0, 0, 0)


@pytest.mark.parametrize("study", RECIPES)
def test_a_recipe_says_where_it_is_from_and_what_data_it_wants(study: str) -> None:
    recipe = RECIPES[study]
    assert f"Report {study[0]}" in recipe.base["description"]
    assert recipe.name.split("/")[0] == recipe.prep["dataset"]
    assert prep_command(recipe).startswith(f"prep {recipe.prep['dataset']} --source DIR --out DIR")
    for number, run in enumerate(recipe.runs, start=1):
        for wanted in (number, run.name):
            assert load_runs(f"{recipe.name}:{wanted}") == (recipe, (run,))


@pytest.mark.parametrize("run", REPORTED, ids=_name)
def test_a_run_builds_its_net(run: Reported) -> None:
    recipe, ours = _ours(run)
    config = resolve(recipe, run=ours)
    model = replace(config.model, weights="none")
    with torch.device("meta"):
        net = registry.build(
            model,
            num_classes=NUM_CLASSES[run.prep["dataset"]],
            image_size=config.augment.image_size,
        )
    counts = freeze.count(net)
    assert 0 < counts.trainable <= counts.total
    assert (counts.trainable < counts.total) == bool(set(_frozen(config.model)) - {"none"})
    assert run.printed.get("trainable_parameters", counts.trainable) == counts.trainable


def _frozen(model: ModelConfig) -> tuple[str, ...]:
    names = model.freeze or model.train_layers
    return (names,) if isinstance(names, str) else names


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """A file of the same form as torchvision's for a net's name, with random weights."""
    folder = tmp_path_factory.mktemp("imagenet")

    def make(name: str) -> str:
        path = folder / f"{name}.safetensors"
        if not path.exists():
            save_file(
                registry.build(ModelConfig(name), num_classes=1000, image_size=224).state_dict(),
                path,
            )
        return str(path)

    yield make
    shutil.rmtree(folder)  # AlexNet's takes 0.2 GB, VGG's 0.6


@pytest.fixture(scope="module")
def few_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("few") / "shapes"
    sizes = ["--num-train", "4", "--num-val", "2", "--num-test", "2", "--classes", "2"]
    result = CliRunner().invoke(prep, ["shapes", "--out", str(out), *sizes], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return out


@pytest.mark.parametrize(
    "run",
    [
        pytest.param(run, marks=() if _name(run) in FEW else pytest.mark.slow, id=_name(run))
        for run in REPORTED
    ],
)
def test_a_run_trains_two_steps(
    run: Reported, imagenet: Callable[[str], str], few_images: Path
) -> None:
    """As its recipe says, but for the batch of two images. What learns changes, what is frozen does
    not."""
    recipe, ours = _ours(run)
    config = resolve(recipe, ["train.batch_size=2", "train.precision=fp32"], run=ours)
    if config.model.weights != "none":
        config = config.replace("model.weights", imagenet(config.model.name))
    reports: list[LoadReport] = []
    state = build_state(
        config, num_classes=2, process=Process(torch.device("cpu")), on_load=reports.append
    )
    if (
        config.model.weights != "none"
    ):  # all fits but the last layer, and what a stem for small images replaces
        assert all(name.startswith(("fc.", "classifier.")) for name, *_ in reports[0].mismatched)
    before = {
        name: parameter.detach().clone() for name, parameter in state.model.named_parameters()
    }
    set_train_mode(state)
    with Loader(
        few_images, "train", config.augment, batch_size=2, threads=1, executor="host"
    ) as loader:
        batches = iter(loader)
        losses = [train_step(state, batches).loss for _ in range(len(loader))]
    assert state.step == len(losses) == 2
    assert torch.stack(losses).isfinite().all()
    changed = {
        name
        for name, parameter in state.model.named_parameters()
        if not torch.equal(parameter, before[name])
    }
    learning = {
        name for name, parameter in state.model.named_parameters() if parameter.requires_grad
    }
    assert changed
    assert changed <= learning
