"""`slipform list`: every name that the commands accept, with a description."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from functools import partial
from typing import Any

import pytest
from click.testing import CliRunner, Result

from slipform.cli import COMMANDS
from slipform.models import registry
from slipform.pipelines.plan import registry as augmentations
from slipform.train import cli
from slipform.train.config.recipe import recipe_names
from slipform.train.config.run_config import RunConfig
from slipform.train.config.sections import VARIANTS
from slipform.train.config.settings import settings
from tests.pipelines import own

slow = partial(pytest.param, marks=pytest.mark.slow)


def _list(*arguments: str) -> Result:
    return CliRunner().invoke(cli.list_names, arguments)


def _names(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return [line.split()[0] for line in result.stdout.splitlines()]


def test_the_help_names_every_kind() -> None:
    kind: Any = cli.list_names.params[0].type
    kinds = list(kind.choices)
    assert "augmentations" in kinds
    for text in (COMMANDS["list"][1], str(cli.list_names.help)):
        assert [word for word in kinds if word not in text] == []


def test_all_settings_are_listed_with_a_description() -> None:
    found = settings()
    wanted = {"description"}
    for section, values in RunConfig().model_dump().items():
        if section != "description" and section not in VARIANTS:
            wanted |= {f"{section}.{name}" for name in values}
    for section, kinds in VARIANTS.items():
        wanted |= {f"{section}.{name}" for kind in kinds.values() for name in kind.model_fields}
    assert sorted(one.name for one in found) == sorted(wanted)
    assert not [one.name for one in found if not one.text]


def test_each_default_is_toml_that_the_setting_accepts() -> None:
    """--set NAME=DEFAULT gives the default, with an optimizer, schedule or loss that has the
    setting."""
    for one in settings():
        if not one.default:
            continue
        value: Any = tomllib.loads(f"value = {one.default}")["value"]
        config = RunConfig()
        section, _, key = one.name.partition(".")
        for reader in one.read_by or ("",):
            if reader:
                config = config.replace(section, {"name": reader})
            changed = config.replace(one.name, value)
            assert getattr(getattr(changed, section), key or "__class__") is not None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("settings", "train.epochs"), ["train.epochs = 20", "Passes over the training images."]),
        (("settings", "optimizer.name"), ["One of sgd, asgd, adam"]),
        (("settings", "nesterov"), ["Of sgd, muon."]),
        (("recipes", "SHAPES/demo"), ["shapes/demo", "The demo: a tiny net"]),
        (("recipes", "mnist/convolutional"), ["(sweep, runs: "]),
        slow(("nets", "resnet18"), ["torchvision, 11.7 million parameters; IMAGENET1K_V1"]),
        slow(("nets", "tiny"), ["Four 3x3 convolutions"]),
        (("nets", "timm/resnet18"), ["timm/resnet18 ", "timm, 224 px; a1_in1k, "]),
        (("augmentations", own.corner.__name__), ["corner  Erase the upper left corner, in"]),
    ],
)
def test_lines_of_each_kind(arguments: tuple[str, str], words: list[str]) -> None:
    result = _list(*arguments)
    assert all(word in result.stdout for word in words), result.output
    assert all(arguments[1].lower() in line.lower() for line in result.stdout.splitlines())


def test_all_names_one_a_line() -> None:
    assert _names(_list("recipes")) == recipe_names()
    assert _names(_list("nets")) == [*registry.names(), "timm/NAME"]
    assert _names(_list("settings")) == [one.name for one in settings()]


def test_a_word_without_a_line_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augmentations, "REGISTERED", {})
    assert "no own augmentation is registered" in _list("augmentations").output
    result = _list("settings", "restnet")
    assert result.exit_code == 1
    says = 'no line of settings has "restnet". All: slipform list settings'
    assert says in result.output


@pytest.mark.parametrize("kind", ["recipes", "settings"])
def test_listing_does_not_import_torch(kind: str) -> None:
    code = (
        "import sys; from slipform.train.cli import list_names\n"
        f"list_names([{kind!r}], standalone_mode=False)\n"
        "sys.exit('torch' in sys.modules)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=240)
    assert process.returncode == 0, process.stderr
