"""What a sheet says of images, and the weights behind its predictions."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from slipform.models import registry
from slipform.pipelines.batch import Batch, Mix
from slipform.train.cli import replay
from slipform.train.config.run_config import RunConfig
from slipform.train.figures.pictures import to_uint8
from slipform.train.replay import sheet as sheets
from slipform.train.replay.history import history
from slipform.train.replay.sheet import Sheet, draw_sheet, is_right
from slipform.train.replay.weights import Predictions, first_net, predictions, weights_near
from slipform.train.run import checkpoint
from slipform.train.run.loop import fit
from slipform.train.step.class_weights import Labels
from tests.train.replay.conftest import Finished

Small = Callable[..., RunConfig]
CLASSES = ["$5 to $10", "cat", "dog"]
HALF = ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
RED, GREEN = "#b3261e", "#2a7f3f"


def _drawn(
    labels: torch.Tensor,
    predicted: list[int],
    monkeypatch: pytest.MonkeyPatch,
    mix: Mix | None = None,
) -> list[tuple[str, str]]:
    """The title and the color of the frame of each image on a sheet."""
    n, figures = len(labels), []
    batch = Batch(torch.zeros(n, 3, 8, 8), labels, torch.arange(n), mix)
    said = Predictions(torch.tensor(predicted), torch.full((n,), 0.5))

    def save(figure: Any, out: Path, name: str) -> Path:
        figures.append(figure)
        return out / name

    monkeypatch.setattr(sheets, "save", save)
    draw_sheet(
        Path(), "x.png", Sheet("of $5 or $6", batch, HALF, CLASSES, None, said), list(range(n))
    )
    (figure,) = figures
    figure.canvas.draw()  # a title that is no formula would raise here
    from matplotlib.colors import to_hex

    return [
        (panel.get_title(), to_hex(next(iter(panel.spines.values())).get_edgecolor()))
        for panel in figure.axes[:n]
    ]


def test_the_frame_tells_whether_the_prediction_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = _drawn(torch.tensor([1, 1, -100]), [1, 2, 1], monkeypatch)
    assert [color for _, color in drawn] == [GREEN, RED, "#000000"]
    assert drawn[0][0] == "0\ncat\n-> cat, 0.5"
    assert drawn[2][0].splitlines()[1] == "unreadable"


def test_several_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each label of an image is right. An image without labels has no frame."""
    labels = torch.tensor([[0.0, 1, 1], [0, 1, 1], [1, 0, 0], [0, 0, 0]])
    drawn = _drawn(labels, [2, 1, 1, 1], monkeypatch)
    assert [color for _, color in drawn] == [GREEN, GREEN, RED, "#000000"]
    lines = [title.splitlines()[1] for title, _ in drawn]
    assert lines == ["cat + dog", "cat + dog", "$5 to $10", "no label"]


def test_an_even_mix_has_two_right_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    mix = Mix(torch.tensor([2, 2, 2]), torch.tensor([0.5, 0.5, 0.5]))
    drawn = _drawn(torch.tensor([1, 1, 1]), [1, 2, 0], monkeypatch, mix)
    assert [color for _, color in drawn] == [GREEN, GREEN, RED]
    assert drawn[0][0].splitlines()[1] == "0.50 cat + 0.50 dog"
    assert is_right(torch.tensor([0.2, 0.3, 0.5]), 2)
    assert not is_right(torch.tensor([0.2, 0.3, 0.5]), 1)


def test_images_as_people_see_them() -> None:
    levels = np.random.default_rng(0).integers(0, 256, (2, 3, 5, 5))
    mean, std = (torch.tensor(values)[:, None, None] for values in HALF)
    images = (torch.from_numpy(levels) / 255 - mean) / std
    assert np.array_equal(to_uint8(images, HALF), levels.transpose(0, 2, 3, 1))
    assert to_uint8(torch.full((1, 3, 1, 1), 9.0), HALF).max() == 255


def test_the_losses_have_the_weights_of_the_classes(small: Small) -> None:
    """The mean over the batch is the loss of the step in float32."""
    counts = Labels("single", ("a", "b"), (30, 10), 40)
    config = small("loss.class_weights=balanced")
    net, images = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), torch.randn(8, 3, 2, 2)
    labels = torch.tensor([0, 1] * 4)
    said = predictions(net, config, Batch(images, labels, torch.arange(8)), counts)
    plain = nn.functional.cross_entropy(
        net(images), labels, reduction="none",
        label_smoothing=config.loss.label_smoothing, weight=torch.tensor([40 / 60, 40 / 20]),
    )  # fmt: skip
    assert torch.allclose(said.losses, plain)


@pytest.mark.usefixtures("no_figures")
def test_the_nearest_weights(tmp_path: Path, trained: Callable[..., Finished]) -> None:
    """A checkpoint before the step, else the best epoch, else those before the first step. Files
    that cannot be used are passed over."""
    run, seen = trained("train.epochs=1").copied(tmp_path / "run"), {}
    segments = history(run)
    own = segments[0].config

    def source(step: int) -> str:
        found = weights_near(run, segments, own, step)
        assert found is not None
        seen[found.source] = found.model
        return found.source

    assert source(6) == "the checkpoint after step 4"
    assert source(2) == "the best epoch"
    content: dict[str, Any]
    for content in ({}, {"state": []}, {"state": {"step": 5}}, {"state": {"step": "x"}}):
        checkpoint.save(run, 5, content, keep=9)
        assert source(6) == "the checkpoint after step 4"
    (run / "best.safetensors").write_bytes(b"damaged")
    assert source(2) == "the beginning of the run"
    torch.manual_seed(own.train.seed)
    expected = registry.build(own.model, num_classes=6, image_size=24).state_dict()
    found = seen["the beginning of the run"].state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.usefixtures("no_figures")
def test_a_run_without_any_weights(
    shapes: Path, tmp_path: Path, small: Small, trained: Callable[..., Finished]
) -> None:
    """The file of its first weights is gone, too: the sheet has no predictions."""
    weights, run = trained("train.epochs=1").copied(tmp_path / "weights"), tmp_path / "run"
    config = small("train.epochs=1", f"model.weights={weights}")
    fit(config, shapes, run, device="cpu", quiet=True)
    for path in (weights, run / "checkpoints"):
        shutil.rmtree(path)
    (run / "best.safetensors").unlink()
    done = CliRunner().invoke(replay, [str(run), "--step", "2", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "the run has no weights" in done.output
    assert (tmp_path / "out/replay-step-00000002.png").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_a_run_on_a_gpu_can_be_looked_at_on_a_cpu(
    tmp_path: Path, trained: Callable[..., Finished]
) -> None:
    """fp16, graphs and several steps in a launch need a GPU; its batches do not."""
    run = trained("train.epochs=1").copied(tmp_path / "run")
    there = {
        'precision = \\"fp32\\"': 'precision = \\"fp16\\"',
        '"device": "cpu"': '"device": "cuda"',
        'compile = \\"off\\"': 'compile = \\"graphs\\"',
        "steps_per_launch = 1": "steps_per_launch = 4",
    }
    text = (run / "starts.jsonl").read_text()
    for before, now in there.items():
        assert before in text
        text = text.replace(before, now)
    (run / "starts.jsonl").write_text(text)
    shutil.rmtree(run / "checkpoints")
    (run / "best.safetensors").unlink()
    segments = history(run)
    assert first_net(segments[0]) is not None
    words = [str(run), "--step", "2", "--out", str(tmp_path / "out"), "--device", "cpu"]
    done = CliRunner().invoke(replay, words)
    assert done.exit_code == 0, done.output
    assert "the run had host on cuda, 4 steps in a launch. They differ by rounding" in done.output
    done = CliRunner().invoke(replay, [str(run), "--diff", str(run)])
    assert done.exit_code == 0, done.output
    assert "6 steps are equal; pixels are equal as the CPU makes them, which need" in done.output
