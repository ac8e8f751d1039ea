"""A misspelled path of a command or setting: the error names the one that was meant."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from slipform.cli import main
from slipform.models.registry import build
from slipform.models.spec import ModelConfig
from slipform.pipelines.errors import ConfigError, nearest_path
from slipform.train.config.recipe import load_recipe


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A dataset, a run and files, all of them empty, in the present folder."""
    for name in (
        "data/shapes/dataset.json",
        "runs/demo/config.toml",
        "photos/1.jpg",
        "runs/demos/x",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in ("photo.jpg", "weights.pth", "mine.toml"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_most_similar_name_beside_it(place: Path) -> None:
    assert nearest_path("runs/dmo") == ' Did you mean "runs/demo"?'
    assert nearest_path(place / "runs/dmos", "config.toml") == f' Did you mean "{place}/runs/demo"?'
    assert nearest_path("runs/demo") == nearest_path("runs/other") == nearest_path("x/y") == ""
    os.mkfifo("shapes")
    (place / "a\n\x1b[1m").touch()
    assert nearest_path("a[1m") == ' Did you mean "a\\n\\x1b[1m"?'


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["validate", "runs/dmo"], "runs/demo"),
        (["predict", "runs/dmo", "photo.jpg"], "runs/demo"),
        (["predict", "runs/demo", "phto.jpg"], "photo.jpg"),
        (["export", "runs/dmo", "--format", "onnx"], "runs/demo"),
        (["train", "--resume", "runs/dmo"], "runs/demo"),
        (["train", "data/shaps", "--out", "runs/x"], "data/shapes"),
        (["find-lr", "data/shaps"], "data/shapes"),
        (["prep", "images", "--source", "photo", "--out", "x"], "photos"),
        (["prep", "verify", "data/shaps"], "data/shapes"),
    ],
    ids=" ".join,
)
def test_commands(arguments: list[str], meant: str, place: Path) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code in (1, 2), result.output
    assert f'Did you mean "{meant}"?' in result.output


@pytest.mark.parametrize("name", ["tiny", "resnet18", "timm/test_vit"])
def test_weights(name: str, place: Path) -> None:
    config = ModelConfig(name, weights="weight.pth")
    with pytest.raises(
        ConfigError, match=r'no such file or folder.* Did you mean "weights\.pth"\?'
    ):
        build(config, num_classes=2, image_size=64)


def test_recipes(place: Path) -> None:
    with pytest.raises(ConfigError, match=r'no recipe file mien\.toml\. Did you mean "mine\.toml"'):
        load_recipe("mien.toml")


def test_names_of_weights(place: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        build(ModelConfig("resnet18", weights="IMAGENET1K_V3"), num_classes=2, image_size=64)
    assert caught.value.message == (
        'model.weights = "IMAGENET1K_V3": no such file or folder. Did you mean "IMAGENET1K_V1"?'
        " Give a file, a run folder, or one of DEFAULT, IMAGENET1K_V1, imagenet, none, pretrained."
    )
