"""The readers of raw sources: archives, CIFAR pickles, idx files, images.

In: a folder for the files. Out: `Reader`s, for `tests.drills.readers`.
"""

from __future__ import annotations

import gzip
import io
import pickle
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image

from slipform.pipelines.decoding.any_image import decode
from slipform.pipelines.decoding.jpeg_layout import read_layout
from slipform.pipelines.decoding.jpeg_scan import decode_region, is_sound
from slipform.pipelines.errors import SlipformError
from slipform.preprocess.archive import unpack
from slipform.preprocess.datasets.cifar import read_cifar10
from slipform.preprocess.idx import read_idx
from slipform.preprocess.layouts.contract import Hints
from slipform.preprocess.layouts.find_layout import discover
from slipform.preprocess.listing import Listing
from tests.drills.reader import Reader
from tests.pipelines.rendering.guarded import Guarded

IN_ZIP = {"a/b.txt": "hello" * 20, "a/c.txt": "hi"}
IN_TARS = {"a/b.txt": "hello", "c.txt": "hello"}
LAID_OUT = {"list": "list/x.csv", "webdataset": "webdataset/x.tar"}
SAMPLES = {
    "list": [("train", f"{k}.jpg", "ab"[k % 2], b"image") for k in range(4)],
    "webdataset": [("", "x.tar:1.jpg", "a", b"image")],
}


def of_sources(folder: Path) -> list[Reader]:
    folder.mkdir()
    rows = (np.arange(2 * 3072) % 256).astype(np.uint8).reshape(2, 3072)
    batch = pickle.dumps({b"data": rows, b"labels": [3, 9]}, protocol=2)
    for name in (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"):
        (folder / name).write_bytes(batch)
    meta = {"label_names": [f"name{k}" for k in range(10)]}
    (folder / "batches.meta").write_bytes(pickle.dumps(meta, protocol=2))
    idx = bytes([0, 0, 8, 3]) + struct.pack(">3I", 5, 4, 3) + bytes(range(60))
    (folder / "x-idx3-ubyte").write_bytes(idx)
    (folder / "y-idx3-ubyte.gz").write_bytes(gzip.compress(idx))
    with zipfile.ZipFile(folder / "x.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, text in IN_ZIP.items():
            zipped.writestr(name, text)
    for ending, mode in (("tar", "w"), ("tar.gz", "w:gz"), ("tar.xz", "w:xz")):
        with tarfile.open(folder / f"x.{ending}", mode) as tar:  # type: ignore[call-overload]
            for name, text in IN_TARS.items():
                info = tarfile.TarInfo(name)
                info.size = len(text)
                tar.addfile(info, io.BytesIO(text.encode()))

    def read_pickles() -> None:
        source = read_cifar10(folder, val_split="stratified", val_fraction=0.0, seed=0)
        train = source.splits["train"]
        assert all(0 <= label < 10 for label in train.labels)
        assert train.read(0).shape == (32, 32, 3)
        if intact("data_batch_1") and intact("batches.meta"):
            assert (train.read(1) == rows[1].reshape(3, 32, 32).transpose(1, 2, 0)).all()
            assert train.labels.tolist() == [3, 9] * 5
            assert source.classes == meta["label_names"]

    def reading(name: str) -> Callable[[], None]:
        def read() -> None:
            array = read_idx(folder / name, 3)
            assert array.ndim == 3
            assert array.dtype == np.uint8
            assert not intact(name) or array.tobytes() == bytes(range(60))

        return read

    def intact(name: str) -> bool:
        return (folder / name).read_bytes() == whole[name]

    def unpacking(name: str) -> Callable[[], None]:
        def read() -> None:
            into = folder / "into"
            shutil.rmtree(into, ignore_errors=True)
            into.mkdir()
            before = sorted(folder.iterdir())
            try:
                unpack(folder / name, into)
            finally:
                assert sorted(folder.iterdir()) == before, "it wrote outside"
            if intact(name):
                found = {str(x.relative_to(into)): x.read_text() for x in into.rglob("*.txt")}
                assert found == (IN_ZIP if name == "x.zip" else IN_TARS)

        return read

    def laying_out(layout: str) -> Callable[[], None]:
        def read() -> None:
            kind, place, listing = discover()[layout], folder / layout, Listing()
            if not kind.find(place, Hints()).words:
                raise SlipformError("it is not of this kind")
            divided, found = kind.read(place, Hints(), listing), []
            for split, part in divided.splits.items():
                for index, label in enumerate(part.labels):
                    with suppress(ValueError):
                        data = part.read(index)
                        assert isinstance(data, bytes)
                        found.append((split, part.name(index), divided.classes[label], data))
            assert not intact(LAID_OUT[layout]) or found == SAMPLES[layout]

        return read

    for k in range(4):
        (folder / "list").mkdir(exist_ok=True)
        (folder / f"list/{k}.jpg").write_bytes(b"image")
    listed = "".join(f"{k}.jpg,{'ab'[k % 2]},train\n" for k in range(4))
    (folder / "list/x.csv").write_text("file_name,label,split\n" + listed)
    (folder / "webdataset").mkdir()
    with tarfile.open(folder / "webdataset/x.tar", "w") as tar:
        for name, content in (("1.json", b'{"label": "a"}'), ("1.jpg", b"image")):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    whole = {str(path.relative_to(folder)): path.read_bytes() for path in files}
    archives = ("x.zip", "x.tar", "x.tar.gz", "x.tar.xz")
    return [
        Reader("CIFAR pickle", folder / "data_batch_1", read_pickles, 120),
        Reader("CIFAR names", folder / "batches.meta", read_pickles, 200),
        Reader("idx", folder / "x-idx3-ubyte", reading("x-idx3-ubyte"), 16),
        Reader("idx.gz", folder / "y-idx3-ubyte.gz", reading("y-idx3-ubyte.gz"), 20),
        *(Reader(name, folder / name, unpacking(name), 600) for name in archives),
        Reader("list of images", folder / LAID_OUT["list"], laying_out("list"), 60),
        Reader("WebDataset", folder / LAID_OUT["webdataset"], laying_out("webdataset"), 2000),
    ]


_FORMATS = {
    "jpg": ("JPEG", "RGB"), "grayscale.jpg": ("JPEG", "L"), "cmyk.jpg": ("JPEG", "CMYK"),
    "png": ("PNG", "RGB"), "palette.png": ("PNG", "P"), "alpha.png": ("PNG", "RGBA"),
    "gif": ("GIF", "P"), "tif": ("TIFF", "RGB"), "float.tif": ("TIFF", "F"), "bmp": ("BMP", "RGB"),
    "webp": ("WEBP", "RGB"), "avif": ("AVIF", "RGB"), "jp2": ("JPEG2000", "RGB"),
    "ppm": ("PPM", "RGB"),
}  # fmt: skip


def of_images(folder: Path) -> list[Reader]:
    folder.mkdir()
    y, x = np.mgrid[:40, :56]
    picture = Image.fromarray(np.stack([x * 4, y * 6, x + y], 2).astype(np.uint8))
    found = []
    for ending, (kind, mode) in _FORMATS.items():
        image = Image.fromarray((x / 56).astype(np.float32)) if mode == "F" else picture
        path = folder / f"x.{ending}"
        image.convert(mode).save(path, kind)
        found.append(Reader(f"image {ending}", path, _decoding(path), 300))
    scans = ("x.jpg", "x.grayscale.jpg")
    return [
        *found,
        *(Reader(f"scan of {x}", folder / x, _scanning(folder / x), 300) for x in scans),
    ]


def _scanning(path: Path) -> Callable[[], None]:
    """Slipform's decoder of JPEG scans, with the bytes at the end of accessible memory."""

    def read() -> None:
        content = np.frombuffer(path.read_bytes(), np.uint8)
        for at_end in (True, False):
            stream = Guarded(max(1, len(content)), np.uint8, at_end).array[: len(content)]
            stream[:] = content
            sound, layout = is_sound(stream), read_layout(stream)
            if layout is not None and layout.size[0] * layout.size[1] < 1 << 20:
                width, height = layout.size
                for scale in (2, 4, 8):
                    if layout.outputs(scale).max() <= 8:
                        decode_region(
                            stream, layout, (width // 3, height // 3, width, height), scale
                        )
        if not sound:
            raise SlipformError("it is not of this kind, or damaged")
        simplejpeg.decode_jpeg(content.tobytes(), strict=True)  # raises where libjpeg warns

    return read


def _decoding(path: Path) -> Callable[[], None]:
    def read() -> None:
        try:
            pixels = decode(path.read_bytes()).rgb
        except ValueError as error:  # it does not know the path; its callers add it
            raise SlipformError(str(error)) from error
        assert pixels.ndim == 3
        assert pixels.dtype == np.uint8

    return read
