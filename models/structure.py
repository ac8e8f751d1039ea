"""The structure of a net: its layers with shapes, parameters and operations.

In: a net and an image size. Out: a `Layer` for each layer. Nothing is computed: the net is on
torch's meta device.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["Layer", "layers"]


@dataclass(frozen=True)
class Layer:
    """One layer of a net, in the order in which the layers are called.

    Attributes:
        name: Its dotted name; "" for the whole net.
        kind: The name of its class.
        output: The shape of its output without the batch; () if that is not one tensor.
        parameters: Its own parameters, without those of layers inside it.
        trainable: Those of them that learn.
        flops: Floating-point operations for one image: twice the multiplications of convolutions,
            linear layers and attention. Other operations are not counted.
        calls: How often it is called.
    """

    name: str
    kind: str
    output: tuple[int, ...]
    parameters: int
    trainable: int
    flops: int
    calls: int = 1


def layers(model: nn.Module, image_size: int) -> list[Layer]:
    """List the layers of a net.

    Args:
        model: The net. It is not changed.
        image_size: The side of the square images, in pixels.

    Returns:
        The layers that have no layers inside, and at the end the whole net.
    """
    model = copy.deepcopy(model).to("meta").eval()
    outputs: dict[str, tuple[int, ...]] = {}
    calls: dict[str, int] = {}
    with _Noted(model, outputs, calls), FlopCounterMode(display=False) as counter:
        output = model(torch.empty(1, 3, image_size, image_size, device="meta"))
    counts: dict[str, dict[Any, int]] = counter.get_flop_counts()
    top = type(model).__name__
    named = dict(model.named_modules())
    found = []
    for name in outputs:
        module = named[name]
        own = list(module.parameters(recurse=False))
        found.append(
            Layer(
                name,
                type(module).__name__,
                outputs[name],
                sum(one.numel() for one in own),
                sum(one.numel() for one in own if one.requires_grad),
                sum(counts.get(f"{top}.{name}", {}).values()),
                calls[name],
            )
        )
    every = list(model.parameters())
    whole = Layer(
        "",
        top,
        tuple(output.shape[1:]),
        sum(one.numel() for one in every),
        sum(one.numel() for one in every if one.requires_grad),
        counter.get_total_flops(),
    )
    return [*found, whole]


class _Noted:
    """Within the block, outputs and calls of the innermost layers are noted."""

    def __init__(
        self, model: nn.Module, outputs: dict[str, tuple[int, ...]], calls: dict[str, int]
    ) -> None:
        self._model, self._outputs, self._calls = model, outputs, calls
        self._hooks: list[Any] = []

    def __enter__(self) -> None:
        for name, module in _innermost(self._model):
            self._hooks.append(module.register_forward_hook(self._hook(name)))

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _hook(self, name: str) -> Any:
        def note(_module: nn.Module, _inputs: object, output: object) -> None:
            self._outputs[name] = tuple(output.shape[1:]) if isinstance(output, Tensor) else ()
            self._calls[name] = self._calls.get(name, 0) + 1

        return note


def _innermost(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Layers without layers inside; attention counts as one layer."""
    taken: list[str] = []
    for name, module in model.named_modules():
        if any(name.startswith(f"{other}.") for other in taken):
            continue
        if isinstance(module, nn.MultiheadAttention) or not list(module.children()):
            taken.append(name)
            yield name, module
