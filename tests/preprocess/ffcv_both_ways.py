"""test_ffcv.py runs this in a separate process: importing ffcv takes seconds, and its loader may
hang.

In: a folder with ours/train.beton, large.beton, raw.beton, several.beton, shard1.beton and
shard2.beton; which of them are loaded, as NAME-OS_CACHE (train-True ...), since ffcv compiles each
of its loaders. Out: the samples that stock ffcv reads from them, as .npy; and stock-jpg.beton and
stock-raw.beton, written by its DatasetWriter.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from ffcv import types
from ffcv.fields import IntField, RGBImageField
from ffcv.fields.decoders import CenterCropRGBImageDecoder, IntDecoder, SimpleRGBImageDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.reader import Reader
from ffcv.writer import DatasetWriter

from slipform.pipelines import beton_format

FOLDER = Path(sys.argv[1])


def load(name: str, decoder: object, os_cache: bool) -> None:
    pipelines = {"image": [decoder], "label": [IntDecoder()]}
    loader = Loader(
        str(FOLDER / "ours" / f"{name}.beton"),
        batch_size=16,
        num_workers=1,
        os_cache=os_cache,
        order=OrderOption.SEQUENTIAL,
        pipelines=pipelines,
        drop_last=False,
    )
    batches = [(images.copy(), labels.copy()) for images, labels in loader]
    np.save(
        FOLDER / f"{name}-{os_cache}-images.npy", np.concatenate([images for images, _ in batches])
    )
    np.save(
        FOLDER / f"{name}-{os_cache}-labels.npy",
        np.concatenate([labels for _, labels in batches])[:, 0],
    )


class Pictures:
    """Noise and ramps of several sizes."""

    def __len__(self) -> int:
        return 50

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        generator = np.random.default_rng(index)
        ramp = np.add.outer(np.arange(20 + index), np.arange(30 + index % 7))[
            ..., None
        ] * 2 + generator.integers(0, 90, 3)
        return (ramp % 256).astype(np.uint8), index % 5


def main() -> None:
    assert types.HeaderType == beton_format.HEADER
    assert types.FieldDescType == beton_format.DESCRIPTOR
    assert types.ALLOC_TABLE_TYPE == beton_format.TABLE_ROW
    ours = beton_format.metadata_type((beton_format.IMAGE_FIELD, beton_format.INT_FIELD))
    theirs = types.get_metadata_type([RGBImageField(), IntField()])
    assert [theirs.fields[n][1] for n in theirs.names] == [ours.fields[n][1] for n in ours.names]
    assert theirs.itemsize == ours.itemsize
    for name in ("train", "large", "raw", "several", "shard1", "shard2"):
        reader = Reader(str(FOLDER / "ours" / f"{name}.beton"))
        assert reader.field_names == ["image", "label"]
        np.save(FOLDER / f"{name}-metadata.npy", reader.metadata.view(ours))
        np.save(FOLDER / f"{name}-table.npy", reader.alloc_table)
        for os_cache in (True, False):
            if f"{name}-{os_cache}" not in sys.argv[2:]:
                continue
            load(
                name,
                SimpleRGBImageDecoder()
                if name not in ("train", "large")
                else CenterCropRGBImageDecoder((32, 32), 1.0),
                os_cache,
            )
    for mode in ("jpg", "raw"):
        fields = {"image": RGBImageField(write_mode=mode, jpeg_quality=90), "label": IntField()}
        DatasetWriter(
            str(FOLDER / f"stock-{mode}.beton"), fields, num_workers=2
        ).from_indexed_dataset(Pictures(), chunksize=7)


if __name__ == "__main__":
    main()
