"""The learning-rate finder: fastai's valley, losses of real steps, no trace in a run."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from slipform.pipelines.errors import ConfigError
from slipform.pipelines.manifest import read_manifest
from slipform.train.cli import find_lr
from slipform.train.config.run_config import RunConfig
from slipform.train.records import read_metrics
from slipform.train.run.loop import fit
from slipform.train.search import rate as searching
from slipform.train.search.rate import find_rate, valley

Small = Callable[..., RunConfig]


def _fastai_valley(losses: list[float]) -> int:
    """fastai 2.7, fastai/callback/schedule.py, `valley`, as it stands there but for the names."""
    n = len(losses)
    max_start, max_end = 0, 0
    lds = [1] * n
    for i in range(1, n):
        for j in range(i):
            if (losses[i] < losses[j]) and (lds[i] < lds[j] + 1):
                lds[i] = lds[j] + 1
            if lds[max_end] < lds[i]:
                max_end = i
                max_start = max_end - lds[max_end]
    sections = (max_end - max_start) / 3
    return max_start + int(sections) + int(sections / 2)


def test_the_valley_is_that_of_fastai() -> None:
    rng = random.Random(0)
    for _ in range(200):
        losses = [rng.gauss(3 - place / 30, 0.5) for place in range(rng.randint(4, 90))]
        assert valley(losses) == max(0, _fastai_valley(losses))


def test_the_suggestion_lies_where_the_loss_falls(shapes: Path, small: Small) -> None:
    found = find_rate(small(), shapes, device="cpu", steps=60, low=1e-5, high=100.0)
    assert len(found.rates) == len(found.losses) == len(found.smoothed) <= 60
    assert np.allclose(np.diff(np.log(found.rates)), np.log(1e7) / 59)
    assert 1e-4 < found.suggestion < 1
    best = found.rates[int(np.argmin(found.smoothed))]
    assert found.suggestion < best


def test_it_leaves_no_trace(
    shapes: Path, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_figures: None
) -> None:
    """The random numbers of the program, and a run afterwards, are as without it."""
    monkeypatch.chdir(tmp_path)
    config = small("train.epochs=1")
    fit(config, shapes, tmp_path / "before", device="cpu", quiet=True)
    state = torch.random.get_rng_state()
    first = find_rate(config, shapes, device="cpu", steps=20)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert [path.name for path in tmp_path.iterdir()] == ["before"]
    fit(config, shapes, tmp_path / "after", device="cpu", quiet=True)
    losses = [
        [one["loss"] for one in read_metrics(tmp_path / name, "step")]
        for name in ("before", "after")
    ]
    assert losses[0] == losses[1]
    assert find_rate(config, shapes, device="cpu", steps=20) == first
    assert first.losses[0] == losses[0][0]  # the first batch and weights of the run


def test_weights_of_classes_count(shapes: Path, small: Small) -> None:
    """The first loss is the mean of (factor of the class * loss of the image)."""
    classes = read_manifest(shapes).classes
    every = small().replace("loss.class_weights", dict.fromkeys(classes, 3.0))
    plain, weighted = (
        find_rate(config, shapes, device="cpu", steps=20).losses[0] for config in (small(), every)
    )
    assert weighted == pytest.approx(3 * plain, rel=1e-5)
    with pytest.raises(ConfigError, match=r'class "disk" in loss\.class_weights'):
        find_rate(small("loss.class_weights={disk=2.0}"), shapes, device="cpu", steps=20)


def test_limits_are_checked(shapes: Path, small: Small) -> None:
    for options in ({"low": 0.0}, {"low": 1.0, "high": 0.1}, {"steps": 19}):
        with pytest.raises(ConfigError, match="0 < low < high"):
            find_rate(small(), shapes, device="cpu", **options)


def test_the_command_prints_a_setting_and_draws(shapes: Path, tmp_path: Path) -> None:
    sets = [f"--set={x}" for x in ("model.name=tiny", "model.small_input=false",
            "augment.image_size=32", "data.threads=1")]  # fmt: skip
    arguments = [str(shapes), *sets, "--steps", "30", "--figure", str(tmp_path / "new/rates.png")]
    result = CliRunner().invoke(find_lr, [*arguments, "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1].startswith("--set optimizer.lr=")
    assert np.asarray(Image.open(tmp_path / "new/rates.png").convert("L")).std() > 1
    wrong = CliRunner().invoke(find_lr, [str(shapes), "--set", "optimizer.lrr=1"])
    assert wrong.exit_code == 1
    assert '"lr"' in wrong.output or "optimizer.lr" in wrong.output


def test_a_search_that_takes_long_says_so(
    shapes: Path, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = itertools.count(0, 6)  # the clock is read twice, with three steps between
    monkeypatch.setattr(searching, "time", SimpleNamespace(monotonic=lambda: float(next(seconds))))
    said: list[str] = []
    find_rate(small(), shapes, device="cpu", steps=24, say=said.append)
    assert said == ["a step takes 2 s: about 40 s for the 24 steps"]
    said.clear()
    seconds = itertools.count(0, 0)
    find_rate(small(), shapes, device="cpu", steps=20, say=said.append)
    assert said == []


@pytest.mark.slow
def test_the_losses_are_those_of_the_run_with_weights_of_classes(
    shapes: Path, small: Small, tmp_path: Path, no_figures: None
) -> None:
    weights = "loss.class_weights={disc=9.0}"
    config = small("train.epochs=1", "train.log_every_steps=1", weights)
    fit(config, shapes, tmp_path / "run", device="cpu", quiet=True)
    found = find_rate(config, shapes, device="cpu", steps=20)
    assert found.losses[0] == read_metrics(tmp_path / "run", "step")[0]["loss"]
    assert found.losses[0] != find_rate(small(), shapes, device="cpu", steps=20).losses[0]


def test_the_steps_end_where_the_loss_diverges(shapes: Path, small: Small) -> None:
    found = find_rate(small(), shapes, device="cpu", steps=40, low=1e-3, high=1e6)
    smoothed = found.smoothed
    assert 20 < len(smoothed) < 40
    assert all(x <= 4 * min(smoothed[: i + 1]) for i, x in enumerate(smoothed[:-1]))


def test_the_first_tenth_and_the_last_five_losses_suggest_nothing(
    shapes: Path, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss falls fastest at both ends; between them it falls at steps 10 to 94 only."""
    losses = [1000.0 - 50 * i for i in range(10)]
    losses += [100.0 - 0.1 * i for i in range(85)] + [50.0 - 9 * i for i in range(5)]
    losses[60] = losses[61]  # the step from 59 to 60 is the steepest one of the others
    rates = [10.0**i for i in range(100)]
    monkeypatch.setattr(searching, "_try_rates", lambda *_: (rates, losses, losses))
    found = find_rate(small(), shapes, device="cpu", steps=100)
    assert found.steepest == rates[59]
    assert found.suggestion == rates[10 + valley(losses[10:95])]
