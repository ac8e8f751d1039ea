"""A wrong word is answered with the most similar right one: commands, options, settings."""

from __future__ import annotations

import difflib
import re
import subprocess
import sys
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import click
import pytest
from click.testing import CliRunner

import slipform as sf
from slipform.models.registry import names
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.preprocess.registry import discover
from slipform.train.config.run_config import check
from slipform.train.config.settings import Setting, settings
from tests.command_lines import COMMANDS, below

EVERY = [
    one for name, command in COMMANDS.items() if name != "slipform"
    for one in below(command, [name])
]  # fmt: skip
GROUPS = [(words, command) for words, command in EVERY if isinstance(command, click.Group)]
CHOICES = [
    (words, command, option)
    for words, command in EVERY
    for option in command.params
    if isinstance(option, click.Option) and isinstance(option.type, click.Choice)
]


def _misspelled(word: str) -> str:
    """A word with its last two letters exchanged, or with one more letter."""
    exchanged = f"{word[:-2]}{word[-1]}{word[-2]}" if len(word) > 3 else word
    return exchanged if exchanged != word else f"{word}{word[-1]}"


def _ratio(a: str, b: str) -> float:
    return difflib.SequenceMatcher(None, a, b).ratio()


def _said(command: click.Command, *words: str) -> str:
    result = CliRunner().invoke(command, [*words])
    assert result.exit_code == 2, result.output
    return " ".join(result.output.split())


@pytest.mark.parametrize(("words", "group"), GROUPS, ids=[" ".join(w) for w, _ in GROUPS])
def test_every_group_of_commands(words: list[str], group: click.Group) -> None:
    for name in group.list_commands(click.Context(group)):
        assert f'Did you mean "{name}"?' in _said(group, _misspelled(name))
    assert "No such command 'qqqq'." in _said(group, "qqqq")


def test_the_command_slipform() -> None:
    assert 'Did you mean "train"?' in _said(COMMANDS["slipform"], "trian", "data")
    assert "No such option" in _said(COMMANDS["slipform"], "--versoin")


@pytest.mark.parametrize(
    ("command", "option"),
    [(command, option) for _, command, option in CHOICES],
    ids=[f"{' '.join(words)} {option.opts[0]}" for words, _, option in CHOICES],
)
def test_every_option_with_choices(command: click.Command, option: click.Option) -> None:
    assert isinstance(option.type, click.Choice)
    words = set(map(str, option.type.choices))
    misspelled = {_misspelled(word) for word in words} - words
    assert misspelled
    for wrong in misspelled:
        assert re.search('Did you mean "[^"]+"', _said(command, option.opts[0], wrong))


@pytest.mark.parametrize(
    ("option", "setting"),
    [
        ("--epochs", "train.epochs"),
        ("--lr", "optimizer.lr"),
        ("--batch-size", "train.batch_size"),
        ("--model", "model.name"),
        ("--executor", "data.executor"),
        ("--mixup", "augment.mixup"),
    ],
)
def test_an_option_that_is_a_setting(option: str, setting: str) -> None:
    said = _said(COMMANDS["train"], "data", option, "3")
    assert f"It is a setting: --set {setting}=VALUE" in said
    assert "It is a setting" not in _said(COMMANDS["train"], "data", "--qqqq")


def _misspellable() -> list[Setting]:
    """The settings in a section whose misspelled name is not that of another one."""
    every = settings()
    keys = {one.name.rpartition(".")[2] for one in every}
    return [
        one for one in every
        if "." in one.name and _misspelled(one.name.rpartition(".")[2]) not in keys
    ]  # fmt: skip


@pytest.mark.parametrize("one", _misspellable(), ids=lambda one: one.name)
def test_every_setting(one: Setting) -> None:
    """A misspelled name is answered with the right one, or with another one that is as near."""
    section, _, key = one.name.rpartition(".")
    wrong = _misspelled(key)
    chosen = {"name": one.read_by[0]} if one.read_by else {}
    with pytest.raises(sf.ConfigError) as caught:
        check({section: {**chosen, wrong: 1}})
    hint = re.search('Did you mean "([^"]+)"', caught.value.message)
    assert hint is not None, caught.value.message
    found = hint[1].rpartition(".")[2]
    assert _ratio(found, wrong) >= _ratio(key, wrong), caught.value.message


WITH_WORDS = [one for one in settings() if any(not word.isdigit() for word in one.words)]


@pytest.mark.parametrize("one", WITH_WORDS, ids=lambda one: one.name)
def test_every_word_of_a_setting(one: Setting) -> None:
    section, _, key = one.name.rpartition(".")
    chosen = {"name": one.read_by[0]} if one.read_by else {}
    misspelled = {_misspelled(word) for word in one.words if not word.isdigit()} - {*one.words}
    assert misspelled
    for wrong in misspelled:
        with pytest.raises(sf.ConfigError) as caught:
            check({section: {**chosen, key: wrong}})
        assert 'Did you mean "' in caught.value.message, caught.value.message


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"train": {"batch_size": "atuo"}}, 'Did you mean "auto"?'),
        ({"train": {"channels_last": "atuo"}}, 'Did you mean "auto"?'),
        ({"data": {"decoder_share": "atuo"}}, 'Did you mean "auto"?'),
        ({"augment": {"image_size": "modle"}}, 'Did you mean "model"?'),
        ({"augment": {"normalize": "imagnet"}}, 'Did you mean "imagenet"?'),
        ({"records": {"sinks": "wandb"}}, 'Write a list: ["wandb"]'),
        ({"records": {"sinks": ["wandbb"]}}, 'Did you mean "wandb"?'),
        ({"augment": {"policy": "rand_augment"}}, 'Give augment.policy.name = "rand_augment"'),
        ({"augment": {"color_jitter": 0.1}}, "Give augment.color_jitter.KEY = VALUE"),
        ({"augment": {"policy": {"magnitud": 3}}}, 'Did you mean "magnitude"?'),
        ({"augment": {"policy": {"name": "randaugment"}}}, 'Did you mean "rand_augment"?'),
        ({"augment": {"num_ops": 3}}, 'Did you mean "augment.policy.num_ops"?'),
        ({"loss": {"gama": 2.0}}, 'Did you mean "loss.gamma"?'),
        ({"optimizer": {"name": "adamm"}}, 'Did you mean "adam"?'),
        ({"optimizer": {"epochs": 3}}, 'Did you mean "train.epochs"?'),
        ({"trian": {"epochs": 3}}, 'Did you mean "train"?'),
    ],
)
def test_words_of_settings(settings: dict[str, object], says: str) -> None:
    with pytest.raises(sf.ConfigError) as caught:
        check(settings)
    assert says in caught.value.message


def test_every_word_of_an_augmentation() -> None:
    for name, kind in get_type_hints(Augmentation).items():
        if get_origin(kind) is Literal:
            for word in get_args(kind):
                with pytest.raises(sf.ConfigError, match="Did you mean"):
                    Augmentation(**{name: _misspelled(word)})


def test_datasets_nets_recipes_and_splits(shapes: Path, tmp_path: Path) -> None:
    for name in discover():
        with pytest.raises(sf.ConfigError, match=f'Did you mean "{name}"'):
            sf.prepare(_misspelled(name), out=tmp_path / "none")
    for name, wrong in (("resnet18", "resnt18"), ("tiny", "tinny"), ("vgg16", "vg16")):
        assert name in names()
        config = sf.RunConfig().replace("model.name", wrong)
        with pytest.raises(sf.ConfigError, match=f'Did you mean "{name}"'):
            sf.fit(config, shapes, tmp_path / name, device="cpu", quiet=True)
    with pytest.raises(sf.ConfigError, match='Did you mean "shapes/demo"'):
        sf.load_recipe("shapes/dmeo")
    with pytest.raises(sf.SlipformError, match='Did you mean "train"'):
        sf.Loader(shapes, "trian", batch_size=4)
    for option in ({"executor": "hosst"}, {"on_bad": "skpi"}, {"decode_scale": "atuo"}):
        with pytest.raises(sf.ConfigError, match="Did you mean"):
            sf.Loader(shapes, "train", batch_size=4, **option)
    with pytest.raises(sf.ConfigError, match='Did you mean "list"'):
        sf.prepare("images", source=shapes, out=tmp_path / "none", layout="lsit")


def test_names_of_the_api() -> None:
    """Python compares the name with those of the object, and adds a suggestion."""
    with pytest.raises(AttributeError) as caught:
        getattr(sf, "Laoder")  # noqa: B009
    assert (caught.value.name, caught.value.obj) == ("Laoder", sf)
    code = "import slipform as sf; sf.Laoder"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert "Did you mean: 'Loader'?" in done.stderr
