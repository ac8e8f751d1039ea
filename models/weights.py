"""Weights from elsewhere: torchvision's ImageNet files, safetensors, state dicts, run folders of
ours.

In: a net and the name of a source. Out: the net with every tensor that fits copied in, and a
LoadReport of the rest. Nothing untrusted is unpickled: .pth files are read with weights_only=True.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from slipform.pipelines.errors import ConfigError, unknown

RUN_WEIGHTS = "best.safetensors"  # inside a run folder
_WRAPPERS = (
    "module.",
    "_orig_mod.",
)  # what DistributedDataParallel and torch.compile put before names
_NESTED = (
    "state_dict",
    "model_state_dict",
    "model",
)  # where training scripts keep the state dict in a larger file


class Unavailable(ConfigError):
    """Weights that are on the network only, and it cannot be reached."""


@dataclass(frozen=True)
class LoadReport:
    """What became of the tensors of a source. Shapes as text: "[1000, 512]"."""

    source: str
    loaded: tuple[str, ...]
    mismatched: tuple[
        tuple[str, str, str], ...
    ]  # name, shape in the source, shape in the net: left as initialized
    missing: tuple[str, ...]  # in the net, not in the source: left as initialized
    unexpected: tuple[str, ...]  # in the source, not in the net: not used

    @property
    def complete(self) -> bool:
        """True where every tensor of the net was loaded."""
        return not self.mismatched and not self.missing

    def __str__(self) -> str:
        num_all = len(self.loaded) + len(self.mismatched) + len(self.missing)
        parts = [f"{self.source}: {len(self.loaded)} of {num_all} tensors loaded"]
        parts += [
            f"{name} is {given} there and {wanted} here, newly initialized"
            for name, given, wanted in self.mismatched
        ]
        if self.missing:
            parts.append(f"not there, newly initialized: {_some(self.missing)}")
        if self.unexpected:
            parts.append(f"there, not used: {_some(self.unexpected)}")
        return "; ".join(parts)


def log_report(report: LoadReport) -> None:
    """The report as one line of the log."""
    logging.getLogger(__name__).info("%s", report)


def load_weights(model: nn.Module, source: str, name: str) -> LoadReport:
    """Copies into `model`, in place, what fits of a source; `name` is the model's name.

    source: "imagenet" (torchvision's default), an entry of torchvision's enum ("IMAGENET1K_V1"), a
    file (.safetensors, or a state dict), or a run folder of ours. Raises ConfigError where it
    cannot be read or where nothing of it fits.
    """
    path = Path(source).expanduser()
    if source != "imagenet" and path.exists():
        shown, state = str(path), read_state(path)
    else:
        shown, state = _imagenet(source, name)
    if "encoder.pos_embedding" in state:
        state = _resized_positions(model, state)
    report = copy_state(model, state, shown)
    if not report.loaded:
        raise ConfigError(
            f'nothing in {shown} fits "{name}": are these the weights of another net?'
        )
    return report


@torch.no_grad()
def copy_state(model: nn.Module, state: Mapping[str, torch.Tensor], source: str) -> LoadReport:
    """Copies every tensor whose name and shape fit, wrappers' prefixes aside.

    Done by hand and not by load_state_dict: that needs all shapes to fit, and MNASNet's insists on
    a version number which safetensors do not keep.
    """
    given = {_plain(name): tensor for name, tensor in state.items()}
    wanted = model.state_dict()
    both = wanted.keys() & given.keys()
    fitting = [name for name in wanted if name in both and wanted[name].shape == given[name].shape]
    for name in fitting:
        wanted[name].copy_(given[name])
    return LoadReport(
        source=source,
        loaded=tuple(fitting),
        mismatched=tuple(
            (name, str(list(given[name].shape)), str(list(wanted[name].shape)))
            for name in wanted
            if name in both and wanted[name].shape != given[name].shape
        ),
        missing=tuple(name for name in wanted if name not in both),
        unexpected=tuple(sorted(given.keys() - both)),
    )


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file or run folder by name. Raises ConfigError for anything that is not only
    tensors."""
    import pickle

    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path.is_dir():
        if not (path / RUN_WEIGHTS).is_file():
            raise ConfigError(
                f"{path} has no {RUN_WEIGHTS}: give a run folder whose training got past one epoch,"
                " or a file"
            )
        path = path / RUN_WEIGHTS
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ConfigError(
            f"{path} is damaged or holds more than tensors, and is not opened, since that could run"
            " code. Save only the state dict: safetensors.torch.save_file(model.state_dict(), ...)"
        ) from error
    except (SafetensorError, RuntimeError, EOFError, ValueError) as error:
        raise ConfigError(f"{path} is damaged or no file of weights: {error}") from error
    for key in _NESTED:
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(
        isinstance(value, torch.Tensor) for value in state.values()
    ):
        raise ConfigError(f"{path} is no state dict: it must map names to tensors")
    return state


def _imagenet(source: str, name: str) -> tuple[str, dict[str, torch.Tensor]]:
    entry, path = fetch_imagenet(source, name)
    # DenseNet's files are older than today's names of its layers: denselayer1.norm.1 is
    # denselayer1.norm1.
    renamed = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", key): v
        for key, v in read_state(path).items()
    }
    return f"{entry} ({path.name})", renamed


def fetch_imagenet(source: str, name: str) -> tuple[str, Path]:
    """torchvision's weights for a model: the entry's name, and the file in torch's cache, fetched
    where it is not there yet.

    Its checksum is in its name. Raises Unavailable where it cannot be fetched, ConfigError where
    there are no such weights.
    """
    import torchvision

    if name not in torchvision.models.list_models(module=torchvision.models):
        raise ConfigError(
            f'model.weights = "{source}": no such file or folder, and "{name}" has no ImageNet'
            " weights"
        )
    entries = torchvision.models.get_model_weights(name)
    if source != "imagenet" and source not in entries.__members__:
        raise unknown(
            "model.weights (a file, a run folder or)",
            source,
            ["none", "imagenet", *entries.__members__],
        )
    entry = entries.DEFAULT if source == "imagenet" else entries[source]
    path = Path(torch.hub.get_dir()) / "checkpoints" / entry.url.rpartition("/")[2]
    if not path.is_file():
        _download(entry.url, path)
    expected = path.stem.rpartition("-")[2]
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(expected):
        raise ConfigError(
            f"{path} is damaged: its SHA-256 begins {found[: len(expected)]}, not {expected}."
            f" Delete it; it is fetched again, or put there the file from {entry.url}"
        )
    return str(entry), path


def _resized_positions(model: nn.Module, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A vision transformer's state dict with its position embeddings interpolated (bicubic) to the
    net's image size."""
    from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

    if not isinstance(model, VisionTransformer):
        return state
    return interpolate_embeddings(model.image_size, model.patch_size, dict(state))


def _download(url: str, path: Path) -> None:
    """Fetches url to path, which appears only when complete and with the right checksum."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(
            url, str(path), hash_prefix=path.stem.rpartition("-")[2], progress=False
        )
    except (OSError, RuntimeError) as error:
        raise Unavailable(
            f"the weights cannot be fetched from {url} ({error}). Without network, put the file"
            f" {path.name} into {path.parent}"
        ) from error


def _plain(name: str) -> str:
    for prefix in _WRAPPERS * 2:
        name = name.removeprefix(prefix)
    return name


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
