"""A run with folds of several labels that began before data.fold_rule keeps its folds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from slipform.pipelines.errors import ConfigError
from slipform.pipelines.manifest import read_manifest
from slipform.train.config.resolve import resolve
from slipform.train.config.run_config import RunConfig
from slipform.train.run.folder import CONFIG, resumed_recipe
from slipform.train.run.loop import fit
from slipform.train.run.unchanged import check_unchanged
from tests.train.run.interrupted import Killed, assert_same, at_step, kill
from tests.train.run.labeled import dataset_of

FORMER = ('loss.name="bce"', 'data.fold="1/4"', 'data.fold_rule="rarest_label"')


def without_rule(run: Path) -> None:
    """Make the settings of a run those of the version before."""
    lines = (run / CONFIG).read_text().splitlines(keepends=True)
    (run / CONFIG).write_text("".join(line for line in lines if "fold_rule" not in line))


def test_it_continues_exactly(
    small: Callable[..., RunConfig], tmp_path: Path, no_figures: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    data, config = dataset_of(tmp_path / "data", "multi"), small(*FORMER)
    fit(config, data, tmp_path / "whole", quiet=True)
    at_step(monkeypatch, 4, kill)
    with pytest.raises(Killed):
        fit(config, data, tmp_path / "parts", quiet=True)
    without_rule(tmp_path / "parts")
    again = resolve(resumed_recipe(tmp_path / "parts", pytest.fail), [])
    assert again.data.fold_rule == "rarest_label"
    other = again.replace("data.fold_rule", "all_labels")
    with pytest.raises(ConfigError, match=r"data\.fold_rule"):
        fit(other, data, tmp_path / "parts", resume=True, quiet=True)
    fit(again, data, tmp_path / "parts", resume=True, quiet=True)
    assert_same(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize("kind", ["multi", "soft"])
def test_a_sweep_goes_on_unless_the_folds_would_differ(
    kind: str, small: Callable[..., RunConfig], tmp_path: Path, no_figures: None
) -> None:
    data, run = dataset_of(tmp_path / "data", kind), tmp_path / "run"
    loss = FORMER[0] if kind == "multi" else 'loss.name="cross_entropy"'
    config = small(loss, 'data.fold="1/4"', "train.epochs=1")
    fit(config.replace("data.fold_rule", "rarest_label"), data, run, quiet=True)
    without_rule(run)
    asked = config.replace("data.folder", str(data))

    def check() -> None:
        check_unchanged(run, asked, read_manifest(data), "give another --out", lambda name: False)

    if kind == "soft":
        check()
        return
    with pytest.raises(ConfigError, match=r'data\.fold_rule = "rarest_label", not'):
        check()
