"""A survey of some images of a source: formats, sizes, bytes, unusual files.

In: a SampleSource. Out: lines for `prep --dry-run`. Images and their headers are read, but not
decoded.
"""

from __future__ import annotations

import io
import os
from collections import Counter
from dataclasses import dataclass, field
from statistics import median

from PIL import Image

from slipform.pipelines.decoding.any_image import check_size, quiet_decoders
from slipform.pipelines.decoding.image_file import FORMATS, looks_like_image
from slipform.pipelines.errors import printable
from slipform.preprocess.encode import Encoding
from slipform.preprocess.listing import some
from slipform.preprocess.read_sample import read_sample
from slipform.preprocess.source import Arrays, Generated, Samples, SampleSource

__all__ = ["size_of", "survey"]

_LOOKED_AT = 1000  # images of each split
_FORMAT_OF = {ending: name for name, endings in FORMATS.items() for ending in endings}


@dataclass
class _Seen:
    """The findings so far."""

    formats: Counter[str] = field(default_factory=Counter)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    bytes: int = 0
    unusable: list[str] = field(default_factory=list)
    misnamed: list[str] = field(default_factory=list)


def size_of(samples: Samples, index: int) -> tuple[int, int] | None:
    """The size of an image, from its header.

    Args:
        samples: Samples that are files of images.
        index: Position of the sample.

    Returns:
        Width and height in pixels. None: the image cannot be used.
    """
    seen = _Seen()
    try:
        with quiet_decoders():
            _look(samples, index, seen)
    except OSError:  # building the dataset reports it
        return None
    return seen.sizes[0] if seen.sizes else None


def survey(source: SampleSource, encoding: Encoding) -> list[str]:
    """Examine up to 1,000 evenly spaced images of each split.

    Args:
        source: The dataset.
        encoding: How its samples will be stored.

    Returns:
        Lines without control characters. Important ones begin with "warning". Empty: the source
        holds no files of images.

    Raises:
        OSError: The disk fails, or a file vanished.
    """
    seen = _Seen()
    looked, total = 0, 0
    with quiet_decoders():
        for samples in source.splits.values():
            if isinstance(samples, Arrays | Generated):
                return []
            number = len(samples.labels)
            step = -(-number // _LOOKED_AT)
            for index in range(0, number, step):
                _look(samples, index, seen)
                looked += 1
            total += number
    lines = [
        f"looked at: {looked:,} of {total:,} images; all take about"
        f" {seen.bytes / looked * total / 1e6:,.1f} MB"
    ]
    formats = ", ".join(f"{number:,} {name}" for name, number in seen.formats.most_common())
    if formats:
        lines.append(f"formats: {formats}")
    others = seen.formats.total() - seen.formats["JPEG"]
    if others and encoding.mode == "keep":
        lines.append(
            f"note: {others:,} of {looked:,} images are not JPEGs, and will be stored as JPEGs of"
            f" quality {encoding.quality}. --encoding raw stores the pixels of all images"
        )
    if seen.sizes:
        widths, heights = ([size[axis] for size in seen.sizes] for axis in (0, 1))
        lines.append(
            f"sizes: {min(widths)} to {max(widths)} px wide, {min(heights)} to {max(heights)} px"
            f" high, median {median(widths):.0f} x {median(heights):.0f}"
        )
    if seen.misnamed:
        lines.append(
            f"note: {len(seen.misnamed):,} files are in another format than their ending says:"
            f" {some(seen.misnamed)}"
        )
    if seen.unusable:
        lines.append(f"warning: {len(seen.unusable):,} cannot be used: {some(seen.unusable)}")
    return lines


def _look(samples: Samples, index: int, seen: _Seen) -> None:
    """Read one image and its header."""
    name = printable(samples.name(index))
    try:
        data = read_sample(samples, index)
        assert isinstance(data, bytes), "arrays have no format"
        if not looks_like_image(data[:16]):
            raise ValueError("its content is not an image")
        with Image.open(io.BytesIO(data), formats=tuple(FORMATS)) as image:
            size, found = image.size, image.format or ""
        check_size(*size)
    except OSError as error:
        if error.errno:
            raise
        seen.unusable.append(f"{name} (its header is damaged)")
    except Exception as error:  # Pillow raises many classes of exceptions for damaged files
        seen.unusable.append(f"{name} ({error})")
    else:
        found = "JPEG" if found == "MPO" else found
        seen.formats[found] += 1
        seen.sizes.append(size)
        seen.bytes += len(data)
        if _FORMAT_OF.get(os.path.splitext(name)[1].lower(), found) != found:
            seen.misnamed.append(f"{name} is {found}")
