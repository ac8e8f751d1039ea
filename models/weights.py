"""Weights of others into a net: torchvision's ImageNet files, state dicts, run folders of ours.

In: a net and the name of a source. Out: the net with every tensor that fits copied in, and a
`LoadReport` of the rest. Names may carry a common prefix ("module.", "model.", "backbone."), which
is found by comparing them with the net's names.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from slipform.models.heads import head_name
from slipform.models.imagenet import read_imagenet
from slipform.models.state_files import StateFile, read_state
from slipform.pipelines.errors import ConfigError

__all__ = ["LoadReport", "copy_state", "load_weights", "log_report"]

_MIN_SHARE = 0.5  # of the tensors below the head: with fewer the file is that of another net


@dataclass(frozen=True)
class LoadReport:
    """What became of the tensors of a source.

    Args:
        source: The file, or the entry of torchvision.
        loaded: Names of the net's tensors that were loaded.
        mismatched: (name, shape in the source, shape in the net) of tensors left as initialized.
        missing: In the net, not in the source: left as initialized.
        unexpected: In the source, not in the net: not used. Names as the source has them.
        prefix: What the names of the source begin with and the net's do not.
        unused: Other parts of the file that hold tensors too.
    """

    source: str
    loaded: tuple[str, ...]
    mismatched: tuple[tuple[str, str, str], ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    prefix: str = ""
    unused: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """True where every tensor of the net was loaded."""
        return not self.mismatched and not self.missing

    def __str__(self) -> str:
        num_all = len(self.loaded) + len(self.mismatched) + len(self.missing)
        parts = [f"{self.source}: {len(self.loaded)} of {num_all} tensors loaded"]
        if self.prefix:
            parts[0] += f' (their names begin with "{self.prefix}")'
        parts += [
            f"{name} is {given} there and {wanted} here, newly initialized"
            for name, given, wanted in self.mismatched
        ]
        if self.missing:
            parts.append(f"not there, newly initialized: {_some(self.missing)}")
        if self.unexpected:
            parts.append(f"there, not used: {_some(self.unexpected)}")
        if self.unused:
            parts.append(f"other parts of the file, not used: {_some(self.unused)}")
        return "; ".join(parts)


def log_report(report: LoadReport) -> None:
    """Write the report as one line of the log."""
    logging.getLogger(__name__).info("%s", report)


def load_weights(model: nn.Module, source: str, name: str) -> LoadReport:
    """Copy what fits of a source into a net, in place.

    Args:
        model: The plain net, neither compiled nor wrapped.
        source: "imagenet" (torchvision's default), an entry of torchvision's enum
            ("IMAGENET1K_V1"), a file (.safetensors, or of torch.save), or a run folder of ours.
        name: The net's name in the registry.

    Returns:
        What was loaded and what was not.

    Raises:
        ConfigError: The source cannot be read, fewer than half of the tensors below the head fit,
            or some of those that fit are infinite or not a number. The net is then as it was.
    """
    path = Path(source).expanduser()
    is_path = source != "imagenet" and os.path.lexists(path)
    found = read_state(path) if is_path else read_imagenet(source, name)
    tensors = found.tensors
    if any(key.endswith("encoder.pos_embedding") for key in tensors):
        tensors = _resized_positions(model, tensors)
    _check_share(model, tensors, found, name)
    return copy_state(model, tensors, found.name, found.unused)


@torch.no_grad()
def copy_state(
    model: nn.Module,
    state: Mapping[str, torch.Tensor],
    source: str,
    unused: tuple[str, ...] = (),
) -> LoadReport:
    """Copy every tensor whose name, without the common prefix, and shape fit.

    load_state_dict is not used: it needs all shapes to fit, and MNASNet's insists on a version
    number which safetensors do not keep.

    Args:
        model: The plain net.
        state: Tensors by name.
        source: What the report calls them.
        unused: Passed on to the report.

    Raises:
        ConfigError: A tensor that fits holds infinite values or such that are not a number.
    """
    wanted = model.state_dict()
    names = _matched(wanted, state)
    fitting = {key: n for key, n in names.items() if wanted[key].shape == state[n].shape}
    broken = [name for name in fitting.values() if not _is_finite(state[name])]
    if broken:
        raise ConfigError(
            f"{source} holds values that are infinite or not a number, in {_some(tuple(broken))}:"
            " these weights are of a training that diverged, or the file is damaged. Take an"
            " earlier or another one."
        )
    for key, name in fitting.items():
        wanted[key].copy_(state[name])
    used = set(names.values())
    return LoadReport(
        source=source,
        loaded=tuple(fitting),
        mismatched=tuple(
            (key, str(list(state[name].shape)), str(list(wanted[key].shape)))
            for key, name in names.items()
            if key not in fitting
        ),
        missing=tuple(key for key in wanted if key not in names),
        unexpected=tuple(sorted(state.keys() - used)),
        prefix=next((n.removesuffix(key) for key, n in names.items()), ""),
        unused=unused,
    )


def _matched(wanted: Mapping[str, object], state: Mapping[str, object]) -> dict[str, str]:
    """Name in the net -> name in the source, in the net's order, for the best common prefix.

    The best prefix is the one under which most of the net's names are found. Of equal ones the
    first in the source is taken; the tensors of the others are then reported as not used.
    """
    counts: Counter[str] = Counter({"": sum(name in wanted for name in state)})
    for name in state:
        parts = name.split(".")
        for i in range(1, len(parts)):
            if ".".join(parts[i:]) in wanted:
                counts[".".join(parts[:i]) + "."] += 1
    prefix = counts.most_common(1)[0][0]
    return {key: prefix + key for key in wanted if prefix + key in state}


def _check_share(
    model: nn.Module, tensors: Mapping[str, torch.Tensor], found: StateFile, name: str
) -> None:
    wanted, head = model.state_dict(), head_name(model)
    body = [key for key in wanted if not key.startswith(f"{head}.")]
    names = _matched(wanted, tensors)
    fitting = [k for k in body if k in names and wanted[k].shape == tensors[names[k]].shape]
    if len(fitting) < _MIN_SHARE * len(body):
        raise ConfigError(
            f'{found.name} does not fit "{name}": only {len(fitting)} of the {len(body)} tensors'
            f" below the head are there in the right shape. It has {_some(tuple(tensors))}; the net"
            f" wants {_some(tuple(body))}. Are these the weights of another net?"
        )


def _is_finite(tensor: torch.Tensor) -> bool:
    return not tensor.is_floating_point() or bool(tensor.isfinite().all())


def _resized_positions(
    model: nn.Module, state: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """A vision transformer's tensors with its position embeddings interpolated (bicubic) to the
    net's image size."""
    from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

    if not isinstance(model, VisionTransformer):
        return dict(state)
    found = next(name for name in state if name.endswith("encoder.pos_embedding"))
    try:
        resized = interpolate_embeddings(
            model.image_size, model.patch_size, {"encoder.pos_embedding": state[found]}
        )
    except (
        ValueError,
        RuntimeError,
    ):  # not of the form [1, 1 + n * n, width]: `copy_state` reports its shape
        return dict(state)
    return {**state, found: resized["encoder.pos_embedding"]}


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
