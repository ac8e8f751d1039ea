"""Files of weights -> tensors by name: safetensors, state dicts, checkpoints of other programs.

In: a file or a run folder. Out: a `StateFile`: the tensors, and the names of the parts of the file
that were not used. Only tensors, plain containers and plain values are unpickled (torch.load with
weights_only=True).
"""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from slipform.models.matching import is_averaged
from slipform.models.weight_file import DTYPES, read_weights
from slipform.pipelines.errors import ConfigError, SlipformError, printable
from slipform.pipelines.files import check_links, open_regular

__all__ = ["StateFile", "read_state"]

_RUN_WEIGHTS = "best.safetensors"  # inside a run folder
# The keys of state dicts in the checkpoints of training programs, the preferred one first.
_USUAL = ("state_dict", "model_state_dict", "model", "params", "net", "module")
# Plain values that training programs write beside the weights: timm's and torchvision's arguments,
# and numbers of numpy. Loading them runs no code of the file.
_SCALAR = np.float64(0).__reduce__()[0]
_PLAIN: list[Any] = [
    argparse.Namespace,
    _SCALAR,
    (_SCALAR, "numpy.core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("f8", "f4", "i8", "i4", "?")),
]


@dataclass(frozen=True)
class StateFile:
    """The tensors of a file.

    Attributes:
        name: The file, and the part of it that was read: 'x.pth ("model_ema")'.
        tensors: The tensors by their names in the file, on the CPU.
        unused: The other parts of the file that map names to tensors, or have a key that is usual
            for weights: "state_dict".
    """

    name: str
    tensors: dict[str, torch.Tensor]
    unused: tuple[str, ...] = ()


def read_state(
    path: Path, fit: Callable[[Mapping[str, torch.Tensor]], tuple[int, ...]] = lambda _: ()
) -> StateFile:
    """Read the tensors of a file or of a run folder.

    Args:
        path: A .safetensors file, a file of torch.save (a state dict, or a checkpoint that has some
            under any keys), or a run folder of Slipform. What does not map names to tensors is
            skipped: "ema" of torch_ema's program has a list of tensors.
        fit: How well the tensors of a state dict fit. The one that fits best is read. Of equal
            ones it is averaged weights, else the one with the most usual key. Default: all are
            equal.

    Raises:
        ConfigError: There is no such file, it is damaged, it is no regular file, or its state dict
            contains something else than dense tensors of real numbers.
    """
    if path.is_dir():
        if not (path / _RUN_WEIGHTS).is_file():
            raise ConfigError(
                f"{path} has no {_RUN_WEIGHTS}: give a run folder with at least one finished"
                " epoch, or a file"
            )
        check_links(path, (_RUN_WEIGHTS,))
        path = path / _RUN_WEIGHTS
    content = _read(path)
    parts = sorted(_innermost(content), key=lambda part: _rank(part[0]))
    states = [part for part in parts if _maps_names(part[1])]
    if not states:
        usual = (part for part in parts if part[0] and _is_usual(part[0][-1]))
        keys, part = next(usual, ((), content))
        place = f"its {_dotted(keys)!r}" if keys else "it"
        raise ConfigError(
            f"{path} contains no state dict: one must map names to tensors, but {place}"
            f" {_contents(part)}. Save the state dict: torch.save(model.state_dict(), ...)"
        )
    used, state = max(states, key=lambda part: fit(part[1]))  # the first one of equal ones
    others = [
        _dotted(keys)
        for keys, part in parts
        if keys != used and part and (_maps_names(part) or _is_usual(keys[-1]))
    ]
    name = f'{path} ("{_dotted(used)}")' if used else str(path)
    return StateFile(name, _checked(state, path), tuple(others))


def _innermost(content: Any) -> Iterator[tuple[tuple[str, ...], Mapping[Any, Any]]]:
    """(keys, mapping) of the mappings that contain no other one under a text, in their order."""
    waiting: list[tuple[tuple[str, ...], Any]] = [((), content)]
    seen = set[int]()
    while waiting:
        keys, part = waiting.pop()
        if not isinstance(part, Mapping) or id(part) in seen:  # seen: it may contain itself
            continue
        seen.add(id(part))
        # An optimizer numbers its parameters, and has tensors for each number.
        inner = [
            k for k, value in part.items() if isinstance(k, str) and isinstance(value, Mapping)
        ]
        if not inner:
            yield keys, part
        waiting += [((*keys, key), part[key]) for key in reversed(inner)]


def _rank(keys: tuple[str, ...]) -> tuple[int, ...]:
    """The place of a part of a file by its keys: averaged weights, usual keys, others."""
    places = (_USUAL.index(key) if key in _USUAL else len(_USUAL) for key in keys)
    return (not any(map(is_averaged, keys)), *places)


def _dotted(keys: tuple[str, ...]) -> str:
    return ".".join(map(printable, keys))


def _is_usual(key: str) -> bool:
    return key in _USUAL or is_averaged(key)


def _maps_names(part: Mapping[Any, Any]) -> bool:
    """Whether a mapping is a state dict. Scores by name, as in a callback's state, are none."""
    return (
        all(isinstance(key, str) and isinstance(t, torch.Tensor) for key, t in part.items())
        and any(t.dim() for t in part.values())
    )  # fmt: skip


def _contents(content: Any) -> str:
    """What is there instead of a state dict: the predicate of a sentence."""
    if not isinstance(content, Mapping):
        return f"is {type(content).__name__}"
    # Among many tensors, the reason is what is no tensor.
    found = sorted(content, key=lambda key: isinstance(content[key], torch.Tensor))
    listed = [f"{key!r} ({type(content[key]).__name__})" for key in found[:8]]
    more = f" and {len(found) - 8} more" if len(found) > 8 else ""
    return f"has {', '.join(listed) or 'no keys'}{more}"


def _read(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return read_weights(path)[0]
        with open_regular(path, ConfigError) as file, torch.serialization.safe_globals(_PLAIN):
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ConfigError(
            f"{path} is damaged or contains more than tensors. It is not opened, because that could"
            " run code. Save only the state dict: safetensors.torch.save_file(model.state_dict(),"
            " ...)"
        ) from error
    except SlipformError as error:
        raise ConfigError(error.message) from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # torch raises many kinds of exceptions for damaged files
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"{path} is damaged, or does not contain weights: {first}") from error


def _checked(tensors: Mapping[str, torch.Tensor], path: Path) -> dict[str, torch.Tensor]:
    """Check that the tensors are dense and of real numbers. Otherwise ConfigError."""
    for name, value in tensors.items():
        if value.layout is not torch.strided or value.is_quantized or value.is_meta:
            raise ConfigError(
                f"{path}: {name} is a sparse, quantized or empty tensor: save it dense"
            )
        if value.dtype not in DTYPES:
            raise ConfigError(
                f"{path}: {name} is {value.dtype}: save it as float32 or another type of real"
                " numbers"
            )
    return dict(tensors)
