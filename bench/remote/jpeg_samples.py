"""JPEG bytes as samples of readers that leave decoding to their user.

In: a `Work`. Out: the stored bytes with their labels, for writing; and what makes an augmented
image of such bytes, with torchcodec and torchvision, as in the peer `torch_dataloader`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from slipform.bench.peers.torch_dataloader import transform

if TYPE_CHECKING:
    from torch import Tensor

    from slipform.bench.work import Work

__all__ = ["JpegSample", "stored_samples"]


class JpegSample:
    """Decodes and augments images. It may be sent to other processes.

    Args:
        work: The work.
    """

    def __init__(self, work: Work) -> None:
        self._transform: Any = transform(work)

    def __call__(self, content: bytes) -> Tensor:
        from torchcodec.decoders import decode_jpeg

        found: Tensor = self._transform(decode_jpeg(bytes(content), mode="RGB"))
        return found


def stored_samples(work: Work) -> Iterator[tuple[bytes, int]]:
    """The bytes and the label of each image of a work, in their order.

    Args:
        work: The work.
    """
    beton = work.open()
    for index in range(len(beton)):
        yield beton.bytes_of(index).tobytes(), int(beton.labels[index])
