"""Comparison of nets: kernels, outputs and histograms equal those of torch and numpy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from slipform.models import registry
from slipform.models.spec import ModelConfig
from slipform.pipelines.errors import ConfigError
from slipform.train.commands.figures import figures
from slipform.train.config.run_config import RunConfig
from slipform.train.figures import compare
from slipform.train.run.loop import fit

Small = Callable[..., RunConfig]
IMAGE = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def _net(seed: int, name: str = "tiny") -> torch.nn.Module:
    torch.manual_seed(seed)
    return registry.build(ModelConfig(name), num_classes=5, image_size=32).eval()


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    found: list[Any] = []

    def save(figure: Any, out: Path, name: str) -> Path:
        found.append(figure)
        return out / name

    monkeypatch.setattr(compare, "save", save)
    return found


def test_a_line_for_each_net_is_its_histogram(drawn: list[Any], tmp_path: Path) -> None:
    nets = {"a": _net(1), "b": _net(2)}
    compare.compare_histograms(tmp_path, nets, {})
    (panel, *_) = drawn[0].axes
    assert panel.get_title() == "weight"
    assert [patch.get_label() for patch in panel.patches] == ["a", "b"]
    arrays = [
        net.get_submodule(compare.layer_names(net)[0]).weight.detach().numpy().ravel()
        for net in nets.values()
    ]
    common = np.histogram_bin_edges(np.concatenate(arrays), round(2 * len(arrays[0]) ** (1 / 3)))
    for patch, values in zip(panel.patches, arrays, strict=True):
        stairs = patch.get_data()
        density, edges = np.histogram(values, common, density=True)
        np.testing.assert_allclose(stairs.edges, edges, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(stairs.values, density, rtol=1e-4)


def test_nearly_constant_values_do_not_hide_the_others(drawn: list[Any], tmp_path: Path) -> None:
    """The nets have common bins, so that their densities can be compared."""
    nets = {"a": _net(1), "flat": _net(2)}
    layer = nets["flat"].get_submodule(compare.layer_names(nets["flat"])[0])
    torch.nn.init.constant_(layer.weight, 1e-12)
    compare.compare_histograms(tmp_path, nets, {})
    other, flat = (patch.get_data().values.max() for patch in drawn[0].axes[0].patches)
    assert flat < 100 * other


def test_a_layer_that_does_not_exist_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    net = _net(1)
    name = compare.layer_names(net)[-1]
    with pytest.raises(ConfigError, match="Did you mean"):
        compare.compare_histograms(tmp_path, {"a": net}, {}, name[:-1] + "x")


def test_the_image_kernels_and_outputs_are_in_the_row_of_their_net(
    drawn: list[Any], tmp_path: Path
) -> None:
    nets = {"a": _net(1), "b": _net(2)}
    compare.compare_first_layers(tmp_path, nets, IMAGE)
    pictures = [axes.images[0].get_array() for axes in drawn[0].axes]
    assert len(pictures) == 6
    np.testing.assert_array_equal(pictures[0], pictures[3])  # the image
    assert not np.array_equal(pictures[1], pictures[4])  # kernels
    assert not np.array_equal(pictures[2], pictures[5])  # outputs
    scaled = (IMAGE - IMAGE.min()) / (IMAGE.max() - IMAGE.min())
    np.testing.assert_allclose(pictures[0], scaled[0].permute(1, 2, 0), atol=1e-6)
    assert compare.compare_first_layers(tmp_path, {"a": _net(1, "fc")}, IMAGE) is None


def test_the_command_compares_runs_and_an_untrained_net(
    shapes: Path, small: Small, tmp_path: Path, no_figures: None, drawn: list[Any]
) -> None:
    for name, rate in (("slow", 0.001), ("fast", 0.1)):
        config = small("train.epochs=1", f"optimizer.lr={rate}")
        fit(config, shapes, tmp_path / name, device="cpu", quiet=True)
    Image.new("RGB", (50, 40), (200, 10, 10)).save(tmp_path / "photo.png")
    arguments = [str(tmp_path / "slow"), str(tmp_path / "fast"), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(figures, [*arguments, "--image", str(tmp_path / "photo.png")])
    assert result.exit_code == 0, result.output
    first, histograms = drawn
    assert [axes.get_title() for axes in first.axes[::3]] == ["slow", "fast", "untrained"]
    titles = {axes.get_title(): axes for axes in histograms.axes}
    assert {"weight", "gradient of weight"} <= titles.keys()
    assert len(titles["weight"].patches) == 3
    assert len(titles["gradient of weight"].patches) == 2  # an untrained net has no gradients
    red = first.axes[0].images[0].get_array()
    assert (red[16, 16, 0] > red[16, 16, 1:]).all()


@pytest.mark.parametrize("twice", [True, False])
def test_wrong_runs_are_refused(twice: bool, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    runs = [str(tmp_path / "a")] * (2 if twice else 1)
    result = CliRunner().invoke(figures, runs)
    assert result.exit_code == 1
    assert ("given twice" in result.output) == twice
