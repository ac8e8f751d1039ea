"""Where prep writes: a local folder, or a folder of an object store.

In: a path or a URL. Out: a `Place`. Both kinds have the same methods, so the modules that write and
check datasets do not know which one it is.
"""

from __future__ import annotations

import os
from pathlib import Path

from slipform.pipelines.remote.client import is_remote
from slipform.preprocess.local_folder import LocalFolder
from slipform.preprocess.object_folder import ObjectFolder

__all__ = ["Out", "Place", "place_of"]

Place = LocalFolder | ObjectFolder
Out = str | os.PathLike[str] | LocalFolder | ObjectFolder


def place_of(out: Out, *, overwrite: bool = False) -> Place:
    """The place that a user named.

    Args:
        out: A path, a URL such as s3://bucket/data, or a place.
        overwrite: Whether a dataset at a URL may be replaced. A local one may always be.

    Raises:
        ConfigError: The URL has a form that is not allowed.
        StorageError: The object store cannot be opened.
    """
    if isinstance(out, LocalFolder | ObjectFolder):
        return out
    if is_remote(out):
        return ObjectFolder(str(out), overwrite=overwrite)
    return LocalFolder(Path(out))
