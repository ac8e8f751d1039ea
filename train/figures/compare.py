"""Figures that compare nets: the first layer for one image, and histograms of a layer.

In: nets by name, an image; run folders. Out: compared_first_layer.png, compared_histograms.png.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from slipform.pipelines.errors import unknown
from slipform.train.figures.draw import new_figure, save
from slipform.train.figures.events import last_histograms, spread
from slipform.train.figures.result import first_convolution, tiled

__all__ = ["compare_first_layers", "compare_histograms", "layer_names"]

_BINS = (10, 80)  # at least and at most
_Floats = npt.NDArray[np.float64]


def compare_first_layers(out: Path, nets: Mapping[str, nn.Module], image: Tensor) -> Path | None:
    """Draw compared_first_layer.png: for each net the image, the kernels and the outputs.

    Args:
        out: The folder of the figure.
        nets: Name -> net, all for images of the same size.
        image: A normalized image, float [1, 3, S, S], on the device of the nets.

    Returns:
        The path of the figure; None if a net has no convolution.
    """
    rows = {name: first_convolution(net, image) for name, net in nets.items()}
    if not all(rows.values()):
        return None
    figure, axes = new_figure(3, len(rows))
    shown = image[0].float().cpu()
    shown = (shown - shown.min()) / (shown.max() - shown.min()).clamp(min=1e-6)
    for panels, (name, found) in zip(np.atleast_2d(axes), rows.items(), strict=True):
        assert found is not None
        pictures = (shown.permute(1, 2, 0).numpy(), tiled(found[0]), tiled(found[1][:, None]))
        titles = (name, "kernels of the first layer", "its outputs for the image")
        for panel, picture, title in zip(panels, pictures, titles, strict=True):
            panel.imshow(picture, interpolation="nearest")
            panel.set_title(title, parse_math=False)
            panel.set_axis_off()
    return save(figure, out, "compared_first_layer.png")


def layer_names(net: nn.Module) -> list[str]:
    """The layers that have weights, in order.

    Args:
        net: The net.
    """
    return [name for name, module in net.named_modules() if hasattr(module, "weight")]


def compare_histograms(
    out: Path, nets: Mapping[str, nn.Module], runs: Mapping[str, Path], layer: str = ""
) -> Path:
    """Draw compared_histograms.png: weights, biases and gradients of a layer, one line for a net.

    Args:
        out: The folder of the figure.
        nets: Name -> net.
        runs: Name -> run folder. The gradients are those that it recorded last.
        layer: The dotted name of the layer. "": the first one with weights.

    Returns:
        The path of the figure.

    Raises:
        ConfigError: A net has no such layer.
    """
    values: dict[str, dict[str, _Floats]] = {}
    recorded: dict[str, dict[str, tuple[Any, Any]]] = {}
    for name, net in nets.items():
        own = layer or layer_names(net)[0]
        if own not in layer_names(net):
            raise unknown("layer", own, layer_names(net), where=f"in {name}")
        module = net.get_submodule(own)
        for kind in ("weight", "bias"):
            found = getattr(module, kind, None)
            if isinstance(found, Tensor):
                array = found.detach().flatten().double().cpu().numpy()
                values.setdefault(kind, {})[name] = array
        gradients = {f"gradients/{own}.{kind}": kind for kind in ("weight", "bias")}
        last = last_histograms(runs[name], list(gradients)) if name in runs else {}
        for tag in sorted(last, reverse=True):  # of the weight, then of the bias
            recorded.setdefault(f"gradient of {gradients[tag]}", {})[name] = last[tag]
    panels = {kind: _histograms(own) for kind, own in values.items()}
    for kind, histograms in recorded.items():
        edges, shares = spread(list(histograms.values()))
        panels[kind] = edges, dict(zip(histograms, shares, strict=True))
    figure, axes = new_figure(len(panels), height=4.2)
    for panel, (kind, (edges, lines)) in zip(np.atleast_1d(axes), panels.items(), strict=True):
        for name, shares in lines.items():
            panel.stairs(shares / np.diff(edges), edges, label=name, linewidth=1.4)
        panel.set(title=kind, xlabel="value", ylabel="density")
        panel.legend(fontsize=8)
    figure.suptitle(layer or "the first layer", parse_math=False)
    return save(figure, out, "compared_histograms.png")


def _histograms(values: Mapping[str, _Floats]) -> tuple[_Floats, dict[str, _Floats]]:
    """Edges of common bins, and the share of the values of each net in each bin.

    Few values get few bins (Rice's rule).
    """
    fewest = min(array.size for array in values.values())
    num_bins = int(np.clip(round(2 * fewest ** (1 / 3)), *_BINS))
    edges = np.histogram_bin_edges(np.concatenate(list(values.values())), num_bins)
    shares = {
        name: np.histogram(array, edges)[0] / max(1, array.size) for name, array in values.items()
    }
    return edges, shares
