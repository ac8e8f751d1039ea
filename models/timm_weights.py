"""Weights for timm's nets: timm's own, or those of a file, read and converted by timm's loader.

In: a net's name, a function that creates it, tensors of a file. Out: tensors by their names in the
net. timm converts files of older versions and of the authors of a net, and resizes position
embeddings. Files are read by `state_files` before: timm gets tensors only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from slipform.models.imagenet import Unavailable
from slipform.pipelines.errors import ConfigError

__all__ = ["converted", "pretrained"]


def pretrained(
    timm_name: str, create: Callable[..., nn.Module], **arguments: Any
) -> tuple[str, dict[str, Tensor]]:
    """timm's weights of a net, from its cache, or downloaded into it.

    Args:
        timm_name: The net's name in timm, with or without a tag.
        create: Calls timm.create_model for that name.
        arguments: image_size, and the net's options.

    Returns:
        The name of the weights, and the tensors by their names in the net.

    Raises:
        Unavailable: The weights are not in the cache, and they cannot be downloaded.
        ConfigError: timm has no weights for the net.
    """
    from timm.models import get_pretrained_cfg

    known = get_pretrained_cfg(timm_name)
    if not known.has_weights:
        raise ConfigError(
            f'timm has no weights for "{timm_name}": set model.weights to "none" or to a file'
        )
    place = known.hf_hub_id or known.url
    try:
        model = create(pretrained=True, **arguments)
    except Exception as error:  # of the network, the hub, the disk: many classes
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise Unavailable(
            f'the weights of "{timm_name}" cannot be loaded from {place} ({reason}). Without a'
            " network, set model.weights to a file of these weights, or copy the folder of Hugging"
            " Face's cache (HF_HOME) from another machine"
        ) from error
    return f"timm/{known.architecture or timm_name}.{known.tag} ({place})", model.state_dict()


def converted(
    timm_name: str,
    create: Callable[..., nn.Module],
    tensors: Mapping[str, Tensor],
    **arguments: Any,
) -> tuple[str, dict[str, Tensor]] | None:
    """The tensors of a file as timm's loader converts them for a net.

    Args:
        timm_name: The net's name in timm, with or without a tag.
        create: Calls timm.create_model for that name.
        tensors: Tensors by their names in the file.
        arguments: image_size, and the net's options.

    Returns:
        The name of the conversion, and the tensors by their names in the net; None if timm's loader
        refuses the tensors.
    """
    from timm.models import get_pretrained_cfg

    known = get_pretrained_cfg(timm_name)
    heads = (known.classifier,) if isinstance(known.classifier, str) else known.classifier or ()
    sizes = [len(tensors[f"{head}.weight"]) for head in heads if f"{head}.weight" in tensors]
    num_classes = sizes[0] if sizes else known.num_classes
    overlay = {"state_dict": dict(tensors), "num_classes": num_classes, "label_offset": 0}
    try:
        model = create(
            pretrained=True, num_classes=num_classes, pretrained_cfg_overlay=overlay, **arguments
        )
    except Exception:  # a conversion raises many kinds of exceptions for files of other nets
        return None
    return "converted by timm", model.state_dict()
