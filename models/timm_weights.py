"""Weights for timm's nets: timm's own, or those of a file, read and converted by timm's loader.

In: a net's name, a function that creates it, tensors of a file. Out: tensors by their names in the
net. timm converts files of older versions and of the authors of a net, and resizes position
embeddings. Files are read by `state_files` before: timm gets tensors only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from slipform.models.imagenet import NETWORK_ERRORS, Unavailable
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
        ConfigError: timm has no weights for the net, or their file is damaged.
    """
    from huggingface_hub.errors import HfHubHTTPError
    from timm.models import get_pretrained_cfg

    http: Any = HfHubHTTPError  # its bases are the errors of the hub's HTTP library
    known = get_pretrained_cfg(timm_name)
    if not known.has_weights:
        raise ConfigError(
            f'timm has no weights for "{timm_name}": set model.weights to "none" or to a file'
        )
    place = known.hf_hub_id or known.url
    try:
        model = create(pretrained=True, **arguments)
    except (*NETWORK_ERRORS, *http.__bases__) as error:
        raise Unavailable(
            f'the weights of "{timm_name}" cannot be loaded from {place} ({_reason(error)}).'
            " Without a network, set model.weights to a file of these weights, or copy the folder"
            " of Hugging Face's cache (HF_HOME) from another machine"
        ) from error
    except Exception as error:  # torch, safetensors and timm raise many kinds for damaged files
        raise ConfigError(
            f'the weights of "{timm_name}" from {place} are damaged, or do not fit the net'
            f" ({_reason(error)}). Delete them from the cache of Hugging Face (HF_HOME) or of torch"
            " (TORCH_HOME) to download them again"
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
        refuses the tensors. A head that is not timm's, such as an mlp head, is not converted: its
        tensors keep their names.
    """
    from timm.models import get_pretrained_cfg

    known = get_pretrained_cfg(timm_name)
    heads = (known.classifier,) if isinstance(known.classifier, str) else known.classifier or ()
    sizes = [len(tensors[f"{head}.weight"]) for head in heads if f"{head}.weight" in tensors]
    num_classes = sizes[0] if sizes else known.num_classes

    def load(given: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        overlay = {"state_dict": dict(given), "num_classes": num_classes, "label_offset": 0}
        try:
            model = create(
                pretrained=True,
                num_classes=num_classes,
                pretrained_cfg_overlay=overlay,
                **arguments,
            )
        except Exception:  # a conversion raises many kinds of exceptions for files of other nets
            return None
        return model.state_dict()

    below = tuple(f"{head}." for head in heads)
    read = load(tensors)
    if read is None and not sizes and below:
        # timm loads all tensors or none: give it a new head, and leave that out afterwards.
        body = {name: tensor for name, tensor in tensors.items() if not name.startswith(below)}
        new = create(num_classes=num_classes, **arguments).state_dict()
        read = load({name: t for name, t in new.items() if name.startswith(below)} | body)
        if read is not None:
            own = {name: tensor for name, tensor in tensors.items() if name.startswith(below)}
            read = {name: t for name, t in read.items() if not name.startswith(below)} | own
    return None if read is None else ("converted by timm", read)


def _reason(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
