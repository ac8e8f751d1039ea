"""The tables of a dataset that does not exist: sizes and positions of all samples.

In: the assumptions. Out: `Tables`, int64, 16 bytes for each sample. The sizes are drawn. Shards are
divided by `shard_parts`, as prep does. Samples follow each other without gaps: the rule of ffcv's
pages (writer.py) adds about half a sample for each 8 MiB, and is left out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from slipform.bench.scale.assumptions import Assumptions
from slipform.pipelines.beton_format import (
    DESCRIPTOR,
    HEADER,
    IMAGE_FIELD,
    INT_FIELD,
    TABLE_ROW,
    metadata_type,
)
from slipform.preprocess.shard_record import Shard
from slipform.preprocess.shards import shard_parts

__all__ = ["FILE_STEP", "TABLE_BYTES", "Int64", "Tables", "made_tables"]

FILE_STEP = 40  # bits: positions in different betons differ by 1 TiB or more
_ALIGNMENT = 4096  # of the first sample: writer.py
_FIXED = HEADER.itemsize + 2 * DESCRIPTOR.itemsize
_METADATA = metadata_type((IMAGE_FIELD, INT_FIELD)).itemsize
TABLE_BYTES = _METADATA + TABLE_ROW.itemsize + 4  # of a sample; 4: its checksum

Int64 = npt.NDArray[np.int64]


class Tables(NamedTuple):
    """Where samples lie.

    Attributes:
        positions: int64 [N], the number of the beton times 1 TiB, and the offset in the beton.
        sizes: int64 [N], in bytes.
        counts: int64 [shards], samples of each beton.
    """

    positions: Int64
    sizes: Int64
    counts: Int64


def made_tables(given: Assumptions, seed: int = 0) -> Tables:
    """Draw sizes, and divide the samples into shards.

    Args:
        given: The assumptions.
        seed: Another seed, other sizes.
    """
    mean = given.num_bytes / given.samples
    generator = np.random.default_rng(seed)
    center = np.log(mean) - given.spread**2 / 2
    drawn = generator.lognormal(center, given.spread, given.samples)
    sizes = np.maximum(np.rint(drawn), 1).astype(np.int64)
    positions, counts = np.empty_like(sizes), []
    for number in range(given.shards):
        part = shard_parts({"train": sizes}, Shard(number + 1, given.shards))["train"]
        ends = np.cumsum(sizes[part.start : part.stop])
        tables_end = _FIXED + len(part) * _METADATA
        begin = (number << FILE_STEP) + -(-tables_end // _ALIGNMENT) * _ALIGNMENT
        positions[part.start : part.stop] = begin + ends - sizes[part.start : part.stop]
        counts.append(len(part))
    return Tables(positions, sizes, np.array(counts, np.int64))
