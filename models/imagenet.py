"""torchvision's ImageNet weights: `fetch_imagenet` finds them in torch's cache or downloads them.

In: a model's name, and "imagenet" or a name of torchvision's weights. Out: a file whose checksum
is right.
"""

from __future__ import annotations

import hashlib
import re
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch

from slipform.models.spec import PRETRAINED
from slipform.models.state_files import StateFile, read_state
from slipform.pipelines.errors import ConfigError, nearest, nearest_path

__all__ = [
    "NETWORK_ERRORS",
    "Unavailable",
    "cached_imagenet",
    "fetch_imagenet",
    "imagenet_entry",
    "read_imagenet",
]

NETWORK_ERRORS = (OSError, HTTPException)  # urllib's errors of the network and the disk


class Unavailable(ConfigError):
    """The weights are not in the cache of their library, and they cannot be downloaded."""


def read_imagenet(source: str, name: str) -> StateFile:
    """The tensors of torchvision's ImageNet weights for a model.

    Args:
        source: As for `imagenet_entry`.
        name: The model's name.

    Raises:
        Unavailable: The weights are not in the cache and cannot be downloaded.
        ConfigError: There are no such weights, or the file is damaged.
    """
    entry, path = fetch_imagenet(source, name)
    # DenseNet's files have old names: denselayer1.norm.1 is now denselayer1.norm1.
    renamed = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", key): tensor
        for key, tensor in read_state(path).tensors.items()
    }
    return StateFile(f"{entry} ({path.name})", renamed)


def cached_imagenet(name: str) -> bool:
    """Whether torchvision's default weights of a model are in torch's cache.

    Args:
        name: Any name; False where it is no model of torchvision.
    """
    try:
        return _path(imagenet_entry("imagenet", name)).is_file()
    except ConfigError:
        return False


def fetch_imagenet(source: str, name: str) -> tuple[str, Path]:
    """Find torchvision's weights of a model, and download them where they are not in the cache.

    Args:
        source: As for `imagenet_entry`.
        name: The model's name.

    Returns:
        The full name of the weights, and their file in torch's cache. The file's SHA-256 begins as
        its name says.

    Raises:
        Unavailable: The file cannot be downloaded.
        ConfigError: There are no such weights, or the cached file is damaged.
    """
    entry = imagenet_entry(source, name)
    path = _path(entry)
    if not path.is_file():
        _download(entry.url, path)
    expected = path.stem.rpartition("-")[2]
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(expected):
        raise ConfigError(
            f"{path} is damaged: its SHA-256 begins with {found[: len(expected)]}, not"
            f" {expected}. Delete it to download it again, or replace it by {entry.url}"
        )
    return str(entry), path


def imagenet_entry(source: str, name: str) -> Any:
    """torchvision's entry of the weights of a model. Nothing is read or downloaded.

    Args:
        source: "pretrained" or "imagenet" (torchvision's default), or a name such as
            "IMAGENET1K_V1".
        name: The model's name.

    Returns:
        A member of the model's `torchvision.models.WeightsEnum`.

    Raises:
        ConfigError: There are no such weights.
    """
    import torchvision

    if name not in torchvision.models.list_models(module=torchvision.models):
        raise ConfigError(
            f'model.weights = "{source}": no such file or folder, and "{name}" has no ImageNet'
            f" weights.{nearest_path(source)}"
        )
    entries = torchvision.models.get_model_weights(name)
    if source in PRETRAINED:
        return entries.DEFAULT
    if source not in entries.__members__:
        words = sorted(["none", *PRETRAINED, *entries.__members__])
        raise ConfigError(
            f'model.weights = "{source}": no such file or folder.'
            f"{nearest_path(source) or nearest(source, words)} Give a file, a run folder, or one of"
            f" {', '.join(words)}."
        )
    return entries[source]


def _path(entry: Any) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / entry.url.rpartition("/")[2]


def _download(url: str, path: Path) -> None:
    """Download a file. `path` appears only when it is complete and its checksum is right."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(
            url, str(path), hash_prefix=path.stem.rpartition("-")[2], progress=False
        )
    except (*NETWORK_ERRORS, RuntimeError) as error:  # RuntimeError: the checksum is wrong
        raise Unavailable(
            f"the weights cannot be downloaded from {url} ({error}). Without a network, copy the"
            f" file {path.name} into {path.parent}"
        ) from error
