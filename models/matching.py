"""The names in a file of weights, and the names of a net's tensors.

In: the tensors of a net and of a file. Out: which tensor of the file belongs to which of the net:
by name after a common prefix ("module.", "model.", "backbone."), or by order if no name matches.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from torch import Tensor

__all__ = ["by_name", "by_order", "extra_blocks", "fit", "fitting", "is_averaged", "prefix_of"]

# As words of their own: "model_ema", "EMACallback", but not "schema". Programs that average weights
# evaluate the averaged ones: timm's state_dict_ema, model_ema of torchvision's references.
_AVERAGED = re.compile(r"(?<![A-Za-z])(?i:ema|swa|averaged?)(?![a-z])")


def is_averaged(name: str) -> bool:
    """Whether a key or a prefix names averaged weights: "model_ema", "ema_model.module.".

    Args:
        name: Any name.
    """
    return _AVERAGED.search(name) is not None


def prefix_of(wanted: Mapping[str, object], state: Mapping[str, object]) -> str:
    """The common prefix of a file's names that matches most of the net's names.

    If two prefixes match equally many names, that of averaged weights is used, else the first one
    in the file. Tensors with other prefixes are not used.

    Args:
        wanted: The net's names.
        state: The file's names.
    """
    counts: Counter[str] = Counter({"": sum(name in wanted for name in state)})
    for name in state:
        parts = name.split(".")
        for i in range(1, len(parts)):
            if ".".join(parts[i:]) in wanted:
                counts[".".join(parts[:i]) + "."] += 1
    return max(counts, key=lambda prefix: (counts[prefix], is_averaged(prefix)))


def by_name(wanted: Mapping[str, object], state: Mapping[str, object]) -> dict[str, str]:
    """Name in the net -> name in the file, in the net's order, for the best common prefix.

    Args:
        wanted: The net's names.
        state: The file's names.
    """
    prefix = prefix_of(wanted, state)
    return {key: prefix + key for key in wanted if prefix + key in state}


def fitting(
    wanted: Mapping[str, Tensor], state: Mapping[str, Tensor], names: Iterable[str]
) -> list[str]:
    """The names whose tensor in a file has the shape of the net's tensor.

    Args:
        wanted: The net's tensors.
        state: The file's tensors.
        names: Names in the net.
    """
    found = by_name(wanted, state)
    return [key for key in names if key in found and wanted[key].shape == state[found[key]].shape]


def fit(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> tuple[int, int]:
    """How well a state dict fits a net, to be compared with that of other state dicts.

    Args:
        wanted: The net's tensors.
        state: The file's tensors.

    Returns:
        How many names and shapes fit, and the number of tensors, up to that of the net: in files
        with other names than the net's, none fit.
    """
    return len(fitting(wanted, state, wanted)), min(len(state), len(wanted))


def by_order(
    wanted: Mapping[str, Tensor], state: Mapping[str, Tensor], body: Iterable[str]
) -> dict[str, Tensor] | None:
    """The tensors of a file of the same net with other names, by their names in the net.

    The n-th tensor of the file belongs to the n-th of the net. Every one must have the same last
    part of its name ("weight", "running_mean") and, below the head, the same shape. Names that
    match are better evidence than the order, so no name may match. Sorted names have lost the
    order of the layers: "block.10" is before "block.2". safetensors.torch.save_file sorts by dtype
    and name.

    Args:
        wanted: The net's tensors.
        state: The file's tensors.
        body: The net's names below the head.

    Returns:
        None if a tensor differs, if there are more or fewer, if a name matches, or if the names are
        sorted.
    """
    below = set(body)
    if len(wanted) != len(state) or by_name(wanted, state) or _is_sorted(state):
        return None
    for key, name in zip(wanted, state, strict=True):
        if key.rpartition(".")[2] != name.rpartition(".")[2]:
            return None
        if key in below and wanted[key].shape != state[name].shape:
            return None
    return dict(zip(wanted, state.values(), strict=True))


def extra_blocks(names: Iterable[str], others: Iterable[str]) -> tuple[str, ...]:
    """The numbered modules of a net that a net of the same kind does not have, in their order.

    "layer1.2" is one if the other net has "layer1", but no "layer1.2".

    Args:
        names: Names of the net's tensors.
        others: Names of the other net's tensors.
    """
    modules = {name[: dot.start()] for name in others for dot in re.finditer(r"\.", name)}
    found: dict[str, None] = {}
    for name in names:
        for number in re.finditer(r"\.\d+(?=\.)", name):
            if name[: number.start()] in modules and name[: number.end()] not in modules:
                found[name[: number.end()]] = None
                break
    return tuple(found)


def _is_sorted(state: Mapping[str, Tensor]) -> bool:
    """Whether the names are sorted among the tensors of each dtype."""
    names: dict[object, list[str]] = {}
    for name, tensor in state.items():
        names.setdefault(tensor.dtype, []).append(name)
    return all(part == sorted(part) for part in names.values())
