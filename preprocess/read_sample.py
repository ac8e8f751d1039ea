"""Reading one sample of a source.

In: samples and a position. Out: a sample, or an error that names it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from slipform.preprocess.source import Samples
from slipform.preprocess.temporary_folder import naming

__all__ = ["read_sample"]


def read_sample(samples: Samples, index: int) -> bytes | npt.NDArray[np.uint8]:
    """Read a sample. An error of the disk names the sample.

    Args:
        samples: The samples of a split.
        index: Position of the sample.

    Returns:
        As `Samples.read`.

    Raises:
        ValueError: The sample cannot be used.
        OSError: The file does not exist, or the disk fails.
    """
    try:
        return samples.read(index)
    except OSError:
        with naming(samples.name(index)):
            raise
