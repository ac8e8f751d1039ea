"""What is at a URL that has no dataset, for the text of an error: `nearby`.

In: the folder without a dataset. Out: sentences: what is there, or above it, and the next step.
"""

from __future__ import annotations

from collections.abc import Sequence

from slipform.pipelines.errors import StorageError, nearest, printable
from slipform.pipelines.remote.failures import NO_BUCKET
from slipform.pipelines.remote.store import Store, open_store

__all__ = ["nearby"]

_SHOWN = 8  # names


def nearby(store: Store) -> str:
    """Say what is in a folder, or in the nearest folder above it that has something.

    Args:
        store: The folder.
    """
    scheme, _, path = store.url.partition("://")
    if scheme.startswith("http"):
        return "Check the URL: it is that of the folder, without the name of the file."
    try:
        folders, objects = store.contents()
        if objects:
            return (
                f"The folder has {_listed(objects)}: its upload has not ended, or it has shards and"
                " was not merged. Run prep again, or prep merge."
            )
        last = ""
        while not folders and "/" in path:
            path, _, last = path.rpartition("/")
            folders, objects = open_store(f"{scheme}://{path}").contents()
        what = f"{scheme}://{path}"
    except StorageError as error:
        if NO_BUCKET in error.message:
            return f"The bucket {path.partition('/')[0]} does not exist. {NO_BUCKET}."
        return f"What is there cannot be listed: {error.message}"
    if folders:
        return f"{what} has the folders {_listed(folders)}.{nearest(last, folders)}"
    return f"Nothing is in {what}. Write the dataset with: prep DATASET --out {store.url}"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(printable(name) for name in names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
