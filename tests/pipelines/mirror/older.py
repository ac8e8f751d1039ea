"""Datasets as older versions wrote them.

In: a dataset folder. Out: a copy without tables of checksums.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from slipform.pipelines.manifest import read_manifest, write_manifest


def without_checksums(folder: Path, out: Path) -> Path:
    """A copy whose betons have only the SHA-256 in dataset.json."""
    shutil.copytree(folder, out)
    for path in out.glob("*.crc32.npy"):
        path.unlink()
    manifest = read_manifest(out)
    splits = {
        name: info.model_copy(update={"index_sha256": ""}) for name, info in manifest.splits.items()
    }
    write_manifest(out, manifest.model_copy(update={"splits": splits}))
    return out
