"""A run with own augmentations: recorded, resumed exactly, and usable where they are not known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from slipform.pipelines.errors import ConfigError, Interrupted
from slipform.pipelines.plan.registry import REGISTERED
from slipform.train.cli import replay, train
from slipform.train.config.recipe import read_config
from slipform.train.config.run_config import RunConfig
from slipform.train.inference.classifier import Classifier
from slipform.train.records import read_summary
from slipform.train.run.loop import fit
from tests.pipelines import own
from tests.train.run.interrupted import assert_same, at_step, terminate

pytestmark = pytest.mark.usefixtures("no_figures")
TABLE = {own.exchange.__name__: {"probability": 0.5}, own.turn.__name__: {"degrees": 15.0}}


def test_a_run_and_its_folder(
    shapes: Path, tmp_path: Path, small: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small("train.epochs=2").replace("augment.own", TABLE)
    whole, run = tmp_path / "whole", tmp_path / "run"
    fit(config, shapes, whole, device="cpu", quiet=True)
    assert read_config(whole / "config.toml").augment.own == TABLE
    with monkeypatch.context() as patch:
        at_step(patch, 2, terminate)
        with pytest.raises(Interrupted):
            fit(config, shapes, run, device="cpu", quiet=True)
    with monkeypatch.context() as patch:  # another program, which does not know them
        for name in TABLE:
            patch.delitem(REGISTERED, name)
        with pytest.raises(ConfigError, match=r'augment\.own\.exchange: no augmentation "exch'):
            fit(config, shapes, run, device="cpu", resume=True, quiet=True)
        for command, arguments in (
            (train, ["--resume", run]),
            (train, [shapes, "--out", tmp_path / "new", "--set", "augment.own.turn=true"]),
            (replay, [run, "--step", 1]),
        ):
            done = CliRunner().invoke(command, [str(word) for word in arguments])
            assert done.exit_code == 1, done.output
            assert "Put the file that registers it into" in done.output
        assert not (tmp_path / "new").exists()
        known = read_summary(whole)
        assert known is not None
        found = Classifier.load(whole, device="cpu").evaluate()
        assert found.headline == known["test_accuracy"]
    fit(config, shapes, run, device="cpu", resume=True, quiet=True)
    assert_same(whole, run)


@pytest.mark.slow
def test_the_losses_are_those_without_it_if_it_does_nothing(
    shapes: Path, tmp_path: Path, small: Callable[..., RunConfig]
) -> None:
    config = small("train.epochs=1", "augment.flip=horizontal")
    fit(config, shapes, tmp_path / "without", device="cpu", quiet=True)
    nothing = config.replace("augment.own", {own.exchange.__name__: {"probability": 0.0}})
    fit(nothing, shapes, tmp_path / "with", device="cpu", quiet=True)
    changed = config.replace("augment.own", {own.exchange.__name__: {"probability": 1.0}})
    fit(changed, shapes, tmp_path / "changed", device="cpu", quiet=True)
    weights = [
        (tmp_path / name / "best.safetensors").read_bytes()
        for name in ("without", "with", "changed")
    ]
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]
