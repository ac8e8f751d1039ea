"""Ends of a run: divergence, early stopping, restart from the best weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from slipform.pipelines.errors import Interrupted
from slipform.train.config.run_config import RunConfig
from slipform.train.records import read_metrics
from slipform.train.run import checkpoint, loop
from slipform.train.run import steps as making
from slipform.train.run.best import load_best
from slipform.train.run.divergence import Diverged
from slipform.train.run.loop import fit
from tests.train.run.interrupted import at_step, terminate

Small = Callable[..., RunConfig]


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("how", ["loss", "weights"])
def test_a_diverged_run_stops_and_keeps_the_last_good_checkpoint(
    how: str, shapes: Path, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, run = making.train_step, tmp_path / "run"  # type: ignore[attr-defined]

    def poisoned(state: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(state, *args, **kwargs)
        if how == "loss" and state.step == 9:
            return replace(result, loss=result.loss * float("inf"))
        if how != "loss" and state.step == 12:  # the last step: all losses are finite
            next(state.model.parameters()).data.fill_(float("nan"))
        return result

    monkeypatch.setattr(making, "train_step", poisoned)
    with pytest.raises(
        Diverged,
        match=(
            r"step 9 is inf.*optimizer\.lr"
            if how == "loss"
            else "validation loss|weights are infinite"
        ),
    ):
        fit(small(), shapes, run, quiet=True)
    steps = [x["step"] for x in read_metrics(run, "step")]
    assert steps == list(range(1, 9 if how == "loss" else 13))
    saved = checkpoint.load_newest(run, pytest.fail)
    assert saved is not None
    assert saved["state"]["step"] == 6
    assert all(tensor.isfinite().all() for tensor in saved["state"]["model"].values())


def _with_accuracies(monkeypatch: pytest.MonkeyPatch, accuracies: list[float]) -> None:
    """Validation returns these results, one after another."""
    original, coming = loop.evaluate, iter(accuracies)  # type: ignore[attr-defined]

    def told(*args: Any) -> Any:
        import dataclasses

        return dataclasses.replace(original(*args), top1=next(coming))

    monkeypatch.setattr(loop, "evaluate", told)


@pytest.mark.usefixtures("no_figures")
def test_stops_early_and_tests_the_best_epoch(
    shapes: Path, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _with_accuracies(monkeypatch, [0.1, 0.5, 0.4, 0.5, 0.9])
    summary = fit(
        small("train.epochs=9", "train.early_stop_after=2", "train.keep_checkpoints=9"),
        shapes,
        tmp_path,
        quiet=True,
    )
    assert (summary["epochs"], summary["best_epoch"], summary["val_accuracy"]) == (4, 2, 0.5)
    saved = torch.load(checkpoint.checkpoints(tmp_path)[2], weights_only=True)
    best = load_best(tmp_path)
    assert saved["state"]["epoch"] == 2
    assert all(torch.equal(best[name], tensor) for name, tensor in saved["state"]["model"].items())


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("clears", [True, False])
def test_goes_back_to_the_best_weights(
    shapes: Path, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clears: bool
) -> None:
    _with_accuracies(monkeypatch, [0.5, 0.4, 0.3, 0.6])
    sets = [] if clears else ["train.restart_clears_momentum=false"]
    sets += ["train.epochs=4", "train.restart_from_best_after=2", "train.keep_checkpoints=9"]
    fit(small(*sets), shapes, tmp_path, quiet=True)
    fourth, third, second, first = [
        torch.load(path, weights_only=True)["state"] for path in checkpoint.checkpoints(tmp_path)
    ]
    assert all(torch.equal(first["model"][name], tensor) for name, tensor in third["model"].items())
    assert not all(
        torch.equal(first["model"][name], tensor) for name, tensor in second["model"].items()
    )
    momenta = [values["momentum_buffer"] for values in third["optimizers"][0]["state"].values()]
    assert momenta
    assert any(momentum.any() for momentum in momenta) != clears
    assert (fourth["best"]["accuracy"], fourth["best"]["epoch"]) == (0.6, 4)


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_a_resumed_run_may_begin_to_go_back_to_the_best_weights(
    shapes: Path, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its checkpoints do not have these weights yet."""
    _with_accuracies(monkeypatch, [0.5, 0.4, 0.3])
    fit(small(), shapes, tmp_path, quiet=True)
    again = small("train.epochs=3", "train.restart_from_best_after=1")
    fit(again, shapes, tmp_path, resume=True, quiet=True)
    saved, best = checkpoint.load_newest(tmp_path, pytest.fail), load_best(tmp_path)
    assert saved is not None
    assert saved["state"]["best"]["epoch"] == 1
    for kept in (saved["state"]["model"], saved["state"]["best_weights"]):
        assert all(torch.equal(best[name], tensor) for name, tensor in kept.items())


@pytest.mark.usefixtures("no_figures")
def test_a_run_that_no_longer_goes_back_forgets_the_weights_of_an_earlier_epoch(
    shapes: Path, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """best.safetensors is written again from checkpoints, where these weights would be found."""
    _with_accuracies(monkeypatch, [0.1, 0.5])
    fit(small("train.epochs=1", "train.restart_from_best_after=9"), shapes, tmp_path, quiet=True)
    fit(small(), shapes, tmp_path, resume=True, quiet=True)
    expected = load_best(tmp_path)
    (tmp_path / "best.safetensors").unlink()
    summary = fit(small(), shapes, tmp_path, resume=True, quiet=True)
    assert summary["best_epoch"] == 2
    found = load_best(tmp_path)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.usefixtures("no_figures")
def test_a_run_whose_best_weights_are_lost_does_not_stop_before_the_next_ones(
    shapes: Path, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small("train.early_stop_after=1", "train.keep_checkpoints=1")
    at_step(monkeypatch, 8, terminate)  # in the second epoch
    with pytest.raises(Interrupted):
        fit(config, shapes, tmp_path, quiet=True)
    (tmp_path / "best.safetensors").unlink()
    summary = fit(config, shapes, tmp_path, resume=True, quiet=True)
    assert (summary["epochs"], summary["best_epoch"]) == (2, 2)
