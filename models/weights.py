"""Loading weights into a net: those of torchvision and timm, state dicts, run folders.

In: a net and the name of a source. Out: the net with every tensor that fits, and a `LoadReport` of
the others. `matching` finds which tensor of the source belongs to which of the net.
"""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from slipform.models import matching
from slipform.models.heads import head_names
from slipform.models.imagenet import read_imagenet
from slipform.models.spec import PRETRAINED
from slipform.models.state_files import StateFile, read_state
from slipform.pipelines.errors import ConfigError, nearest_path

__all__ = ["LoadReport", "copy_state", "is_path", "load_exactly", "load_weights", "log_report"]

Pretrained = Callable[[dict[str, torch.Tensor] | None], tuple[str, dict[str, torch.Tensor]] | None]
_MIN_SHARE = 0.5  # of the tensors below the head; a smaller share means that the net is another one


@dataclass(frozen=True)
class LoadReport:
    """Which tensors of a source were loaded, and which were not.

    Attributes:
        source: The file, or the name of the library's weights.
        loaded: Names of the net's tensors that were loaded.
        mismatched: (name, shape in the source, shape in the net) of the net's tensors that keep
            their initial values because the shapes differ.
        missing: Names of the net's tensors that are not in the source and keep their initial
            values.
        unexpected: Names of the source's tensors that are not in the net.
        prefix: The common prefix of the names in the source.
        unused: Other parts of the file that have tensors, too.
        warnings: What suggests that the source has the weights of another net.
    """

    source: str
    loaded: tuple[str, ...]
    mismatched: tuple[tuple[str, str, str], ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    prefix: str = ""
    unused: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every tensor of the net was loaded."""
        return not self.mismatched and not self.missing

    def __str__(self) -> str:
        num_all = len(self.loaded) + len(self.mismatched) + len(self.missing)
        parts = [f"{self.source}: {len(self.loaded)} of {num_all} tensors loaded"]
        if self.prefix:
            parts[0] += f' (their names begin with "{self.prefix}")'
        parts += [
            f"{name} is {given} in the source and {wanted} in the net, newly initialized"
            for name, given, wanted in self.mismatched
        ]
        if self.missing:
            parts.append(f"not in the source, newly initialized: {_some(self.missing)}")
        if self.unexpected:
            parts.append(f"not in the net, not used: {_some(self.unexpected)}")
        if self.unused:
            parts.append(f"other parts of the file, not used: {_some(self.unused)}")
        return "; ".join(parts)


def log_report(report: LoadReport) -> None:
    """Write a report to the log, in one line, and its warnings.

    Args:
        report: What `load_weights` returned.
    """
    log = logging.getLogger(__name__)
    log.info("%s", report)
    for line in report.warnings:
        log.warning("%s", line)


def load_weights(
    model: nn.Module, source: str, name: str, pretrained: Pretrained | None = None
) -> LoadReport:
    """Copy the tensors of a source that fit into a net, in place.

    Args:
        model: The plain net, neither compiled nor wrapped.
        source: "pretrained" or "imagenet" (the usual weights of the library), a name of
            torchvision's weights ("IMAGENET1K_V1"), a file (.safetensors, or of torch.save), or a
            run folder.
        name: The net's name in the registry.
        pretrained: `Net.pretrained` of the net, with its image_size and options. Default: the
            library converts nothing.

    Raises:
        ConfigError: The source cannot be read, fewer than half of the tensors below the head fit,
            or a tensor that fits has values that are infinite or not a number. The net has not
            changed.
    """
    if is_path(source):
        read = read_state(Path(source).expanduser(), partial(matching.fit, model.state_dict()))
        found = _adapted(model, read, pretrained)
    elif pretrained is None:
        found = read_imagenet(source, name)
    else:
        found = _of_library(source, name, pretrained)
    tensors = found.tensors
    if any(key.endswith("encoder.pos_embedding") for key in tensors):
        tensors = _resized_positions(model, tensors)
    _check_share(model, tensors, found, name)
    return copy_state(model, tensors, found.name, found.unused)


def is_path(source: str) -> bool:
    """Whether model.weights is a file or a folder, and not the weights of a library.

    Args:
        source: The setting. The words of `PRETRAINED` are no paths, even if such a folder exists.
    """
    return source not in PRETRAINED and os.path.lexists(Path(source).expanduser())


def _of_library(source: str, name: str, pretrained: Pretrained) -> StateFile:
    if source not in PRETRAINED:
        raise ConfigError(
            f'model.weights = "{source}": no such file or folder.{nearest_path(source)} Give'
            ' "pretrained", a file or a run folder. Other weights have a tag in the name:'
            f' model.name = "{name}.TAG"'
        )
    read = pretrained(None)
    assert read is not None
    return StateFile(*read)


def _adapted(model: nn.Module, found: StateFile, pretrained: Pretrained | None) -> StateFile:
    """The tensors of a file with the net's names: converted by the library, or by their order.

    They stay as they are where they fit, and where neither is possible.
    """
    wanted, body = model.state_dict(), _body(model)
    if len(matching.fitting(wanted, found.tensors, body)) == len(body):
        return found
    if pretrained is not None:
        prefix = matching.prefix_of(wanted, found.tensors)
        own = {n.removeprefix(prefix): t for n, t in found.tensors.items() if n.startswith(prefix)}
        if (read := pretrained(own)) is not None:
            others = {n: t for n, t in found.tensors.items() if not n.startswith(prefix)}
            tensors = {**others, **read[1]}  # the report lists the others
            return replace(found, name=f"{found.name}, {read[0]}", tensors=tensors)
    ordered = matching.by_order(wanted, found.tensors, body)
    if ordered is None:
        return found
    how = "other names, matched by order and shape"
    return replace(found, name=f"{found.name} ({how})", tensors=ordered)


@torch.no_grad()
def copy_state(
    model: nn.Module,
    state: Mapping[str, torch.Tensor],
    source: str,
    unused: tuple[str, ...] = (),
) -> LoadReport:
    """Copy every tensor into a net whose name, without the common prefix, and shape fit.

    load_state_dict is not used: all shapes would have to fit.

    Args:
        model: The plain net; changed in place.
        state: Tensors by name.
        source: The name of the source in the report.
        unused: The unused parts of the source, for the report.

    Raises:
        ConfigError: A tensor that fits has values that are infinite or not a number. The net has
            not changed.
    """
    wanted = model.state_dict()
    names = matching.by_name(wanted, state)
    fitting = {key: n for key, n in names.items() if wanted[key].shape == state[n].shape}
    broken = [name for name in fitting.values() if not _is_finite(state[name])]
    if broken:
        raise ConfigError(
            f"{source} has values that are infinite or not a number, in {_some(tuple(broken))}:"
            " these weights are of a training that diverged, or the file is damaged. Use an earlier"
            " or another file."
        )
    for key, name in fitting.items():
        wanted[key].copy_(state[name])
    used = set(names.values())
    prefix = next((n.removesuffix(key) for key, n in names.items()), "")
    own = [n.removeprefix(prefix) for n in state if n.startswith(prefix)]
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
        prefix=prefix,
        unused=unused,
        warnings=_other_depth(source, _body(model), _body(model, own)),
    )


def load_exactly(model: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Load a state dict that has all tensors of a net and no others.

    A file keeps only the tensors of a state dict. MNASNet's load_state_dict also needs the version
    numbers of its modules: those of the net are used.

    Args:
        model: A net; changed in place.
        state: The tensors of a net of the same structure, by name.

    Raises:
        RuntimeError: A name or a shape differs.
    """
    versioned = OrderedDict(state)
    versioned._metadata = model.state_dict()._metadata  # type: ignore[attr-defined]
    model.load_state_dict(versioned)


def _body(model: nn.Module, names: Iterable[str] | None = None) -> list[str]:
    """The names of a net's tensors that are not of the head. Default: all names of the net."""
    heads = tuple(f"{name}." for name in head_names(model))
    names = model.state_dict() if names is None else names
    return [key for key in names if not key.startswith(heads)]


def _other_depth(source: str, net: list[str], file: list[str]) -> tuple[str, ...]:
    more, fewer = matching.extra_blocks(file, net), matching.extra_blocks(net, file)
    question = "are these the weights of another net?"
    lines = []
    if more:
        lines.append(f"{source} has {_some(more)}, which the net does not have: {question}")
    if fewer:
        lines.append(f"the net has {_some(fewer)}, which {source} does not have: {question}")
    return tuple(lines)


def _check_share(
    model: nn.Module, tensors: Mapping[str, torch.Tensor], found: StateFile, name: str
) -> None:
    body = _body(model)
    fitting = matching.fitting(model.state_dict(), tensors, body)
    if len(fitting) < _MIN_SHARE * len(body):
        raise ConfigError(
            f'{found.name} does not fit "{name}": only {len(fitting)} of the {len(body)} tensors'
            f" below the head have the right name and shape. The file has {_some(tuple(tensors))};"
            f" the net has {_some(tuple(body))}. Are these the weights of another net?"
        )


def _is_finite(tensor: torch.Tensor) -> bool:
    return not tensor.is_floating_point() or bool(tensor.isfinite().all())


def _resized_positions(
    model: nn.Module, state: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """A vision transformer's tensors, with position embeddings for the net's image size.

    torchvision interpolates the embeddings (bicubic).
    """
    from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

    if not isinstance(model, VisionTransformer):
        return dict(state)
    found = next(name for name in state if name.endswith("encoder.pos_embedding"))
    try:
        resized = interpolate_embeddings(
            model.image_size, model.patch_size, {"encoder.pos_embedding": state[found]}
        )
    except (ValueError, RuntimeError):
        # Its shape is not [1, 1 + n * n, width]: `copy_state` reports that.
        return dict(state)
    return {**state, found: resized["encoder.pos_embedding"]}


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
