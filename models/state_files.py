"""Files of weights -> tensors by name: safetensors, state dicts, checkpoints of other programs.

In: a file or a run folder. Out: a `StateFile`: the tensors, and the names of the parts of the file
that were not used. Only tensors, plain containers and plain values are unpickled (torch.load with
weights_only=True).
"""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from slipform.models.weight_file import DTYPES, read_weights
from slipform.pipelines.errors import ConfigError, SlipformError
from slipform.pipelines.files import check_links, open_regular

__all__ = ["StateFile", "read_state"]

_RUN_WEIGHTS = "best.safetensors"  # inside a run folder
# The keys of state dicts in the checkpoints of training programs, the preferred one first. Those
# programs evaluate their averaged weights: timm's state_dict_ema, model_ema of torchvision's
# references.
_NESTED = (
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "params_ema",
    "ema",
    "state_dict",
    "model_state_dict",
    "model",
    "params",
    "net",
    "module",
)
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
        unused: The other parts of the file under usual keys: "state_dict".
    """

    name: str
    tensors: dict[str, torch.Tensor]
    unused: tuple[str, ...] = ()


def read_state(path: Path) -> StateFile:
    """Read the tensors of a file or of a run folder.

    Args:
        path: A .safetensors file, a file of torch.save (a state dict, or a checkpoint that has one
            under a usual key), or a run folder of Slipform. A usual key with something else than
            tensors by name is skipped: "ema" of torch_ema's program has a list of tensors.

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
    parts = list(_parts(_read(path))) or [("", None)]
    used, content = next((part for part in parts if _maps_names(part[1])), parts[0])
    tensors = _tensors(content, path)
    name = f'{path} ("{used}")' if used else str(path)
    return StateFile(name, tensors, tuple(key for key, part in parts if part and key != used))


def _parts(content: Any) -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of the innermost parts under usual keys, the preferred one first."""
    waiting, seen = [("", content)], set[int]()
    while waiting:
        used, part = waiting.pop()
        if id(part) in seen:  # a mapping that contains itself
            continue
        seen.add(id(part))
        keys = _NESTED if isinstance(part, Mapping) else ()
        inner = [key for key in keys if isinstance(part.get(key), Mapping)]
        if not inner:
            yield used, part
        waiting += [(f"{used}.{key}".lstrip("."), part[key]) for key in reversed(inner)]


def _maps_names(part: Any) -> bool:
    return (
        isinstance(part, Mapping)
        and bool(part)
        and all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in part.items())
    )


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


def _tensors(content: Any, path: Path) -> dict[str, torch.Tensor]:
    """Check that `content` maps names to dense tensors, and return it. Otherwise ConfigError."""
    if not isinstance(content, Mapping) or not content:
        raise ConfigError(f"{path} is no state dict: it must map names to tensors")
    tensors: dict[str, torch.Tensor] = {}
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise ConfigError(
                f"{path} is no state dict: it must map names to tensors, and {name!r} is"
                f" {type(value).__name__}"
            )
        if value.layout is not torch.strided or value.is_quantized or value.is_meta:
            raise ConfigError(
                f"{path}: {name} is a sparse, quantized or empty tensor: save it dense"
            )
        if value.dtype not in DTYPES:
            raise ConfigError(
                f"{path}: {name} is {value.dtype}: save it as float32 or another type of real"
                " numbers"
            )
        tensors[name] = value
    return tensors
