"""Damaged and hostile input from hypothesis: a clear error or a right result, no other exception,
and no executed code."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from slipform.pipelines.beton import Beton
from slipform.pipelines.errors import DatasetError, printable
from slipform.pipelines.manifest import SplitInfo, read_manifest
from slipform.pipelines.sample_names import read_names
from slipform.preprocess.build import build_dataset
from slipform.preprocess.datasets.caltech101 import read_list
from slipform.preprocess.datasets.cifar import read_cifar10
from slipform.preprocess.encode import Encoding, encode
from slipform.preprocess.idx import read_idx
from slipform.preprocess.pickles import read_pickle
from slipform.preprocess.source import Generated, SampleSource
from tests.preprocess.mutations import BOUNDED, checked_file, mutations


def saved(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    y, x = np.mgrid[:40, :56]
    file = io.BytesIO()
    if mode == "F":
        image = Image.fromarray((x / 56).astype(np.float32))
    elif mode == "I;16":
        image = Image.fromarray((x * y).astype(np.uint16))
    else:
        image = Image.fromarray(np.stack([x * 4, y * 6, x + y], 2).astype(np.uint8)).convert(mode)
    image.save(file, kind, **options)
    return file.getvalue()


FILES = {
    "jpeg": saved("JPEG", quality=80),
    "progressive": saved(
        "JPEG",
        quality=80,
        progressive=True,
        exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0",
    ),
    "png": saved("PNG"),
    "gif": saved("GIF"),
    "tiff": saved("TIFF"),
    "bmp": saved("BMP"),
    "webp": saved("WEBP"),
    "avif": saved("AVIF"),
    "jpeg 2000": saved("JPEG2000"),
    "ppm": saved("PPM"),
    "palette": saved("PNG", "P"),
    "16 bit": saved("PNG", "I;16"),
    "float": saved("TIFF", "F"),
    "cmyk": saved("JPEG", "CMYK"),
}
RARE = ("bmp", "avif", "jpeg 2000", "ppm", "palette", "float")


@pytest.mark.parametrize(
    "kind", [pytest.param(x, marks=pytest.mark.slow if x in RARE else ()) for x in FILES]
)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
def test_images(kind: str) -> None:
    @given(mutations(FILES[kind]))
    @BOUNDED
    def check(data: bytes) -> None:
        try:
            stored = encode(data, Encoding(), decoded=True)
        except ValueError:
            return
        assert encode(data, Encoding(), decoded=False)[:4] == stored[:4]
        pixels = np.asarray(
            Image.open(io.BytesIO(bytes(stored.data))).convert("RGB")
        )  # other programs can read the accepted files
        assert pixels.shape == (stored.height, stored.width, 3)
        if stored.data == data:  # kept files: the summed pixels are those of Pillow
            assert stored.pixels is not None
            np.testing.assert_array_equal(
                stored.pixels if stored.pixels.ndim == 3 else np.dstack([stored.pixels] * 3), pixels
            )

    check()


IDX = bytes([0, 0, 8, 3]) + struct.pack(">3I", 5, 4, 3) + bytes(range(60))


@given(mutations(IDX), st.booleans())
@BOUNDED
def test_idx(data: bytes, packed: bool) -> None:
    name = "x-idx3-ubyte" + (".gz" if packed else "")
    array = checked_file(
        gzip.compress(data) if packed else data, lambda path: read_idx(path, 3), name
    )
    if isinstance(array, np.ndarray):
        assert data[16:] == array.tobytes()
        assert struct.unpack(">3I", data[4:16]) == array.shape


@given(mutations(gzip.compress(IDX)))
@BOUNDED
def test_damaged_gzip(data: bytes) -> None:
    array = checked_file(data, lambda path: read_idx(path, 3), "x-idx3-ubyte.gz")
    assert array is None or np.array_equal(array, np.arange(60).reshape(5, 4, 3))


BATCH = pickle.dumps(
    {b"data": (np.arange(2 * 3072) % 256).astype(np.uint8).reshape(2, 3072), b"labels": [3, 9]},
    protocol=2,
)
META = pickle.dumps({"label_names": [f"name{i}" for i in range(10)]}, protocol=2)


@given(mutations(BATCH))
@BOUNDED
def test_pickles(data: bytes) -> None:
    def read(path: Path) -> object:
        folder = path.parent
        for name in ("data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"):
            (folder / name).write_bytes(BATCH)
        (folder / "batches.meta").write_bytes(META)
        source = read_cifar10(folder, val_split="stratified", val_fraction=0.0, seed=0)
        assert all(0 <= label < 10 for label in source.splits["train"].labels)
        assert source.splits["train"].read(0).shape == (32, 32, 3)
        return source

    checked_file(data, read, "data_batch_1")


class Hostile:
    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
@pytest.mark.parametrize("function", [os.mkdir, eval, np.zeros, np.load])
def test_hostile_pickles_run_nothing(
    tmp_path: Path, function: Callable[..., object], protocol: int
) -> None:
    argument = (
        f"__import__('os').mkdir({str(tmp_path / 'owned')!r})"
        if function is eval
        else str(tmp_path / "owned")
    )
    path = tmp_path / "data_batch_1"
    path.write_bytes(pickle.dumps({b"data": Hostile(function, argument)}, protocol=protocol))
    with pytest.raises(DatasetError, match="trusted"):
        read_pickle(path)
    assert os.listdir(tmp_path) == ["data_batch_1"]


def test_a_pickle_with_a_huge_memo_takes_no_memory(tmp_path: Path) -> None:
    (tmp_path / "meta").write_bytes(
        b"\x80\x02}r\xff\xff\xff\x7f."
    )  # LONG_BINPUT: 2^31 entries, 16 GB in C's unpickler
    assert read_pickle(tmp_path / "meta") == {}


@given(
    st.lists(
        st.text(max_size=20)
        | st.sampled_from(
            ["a/1.jpg", "a/../a/1.jpg", "/etc/passwd", "BACKGROUND_Google/x", "b/2.jpg"]
        ),
        max_size=5,
    )
)
@BOUNDED
def test_split_lists(lines: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for path in ("a/1.jpg", "b/2.jpg"):
            (root / path).parent.mkdir()
            (root / path).write_bytes(b"")
        (root / "train.txt").write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
        try:
            files = read_list(root, root / "train.txt", ["a", "b"])
        except DatasetError as error:
            message = error.message
        else:
            message = "train.txt"
            assert set(files.paths) <= {"a/1.jpg", "b/2.jpg"}
            assert files.labels.tolist() == ["ab".index(path[0]) for path in files.paths]
        assert "train.txt" in message


NAMES = b"a/1.jpg\nb/2.jpg\nb/3.jpg\n"


@given(mutations(NAMES))
@BOUNDED
def test_names_of_samples(data: bytes) -> None:
    info = SplitInfo(
        file="x.beton",
        num_samples=3,
        counts=[1, 2],
        bytes=0,
        sha256="",
        modes={},
        min_height=1,
        min_width=1,
        max_height=1,
        max_width=1,
        names_sha256=hashlib.sha256(NAMES).hexdigest(),
    )
    names = checked_file(data, lambda path: read_names(path.parent, info), "x.names.txt")
    assert (names == ["a/1.jpg", "b/2.jpg", "b/3.jpg"]) == (data == NAMES)


@given(st.text() | st.binary().map(os.fsdecode))
@BOUNDED
def test_printable_text_is_one_quiet_line(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    shown.encode()  # no surrogate is left
    assert shown == text or not text.isprintable()


@given(st.lists(mutations(FILES["jpeg"]), min_size=1, max_size=30))
@settings(BOUNDED, max_examples=15)
def test_accepted_images_are_complete(contents: list[bytes]) -> None:
    contents.append(FILES["jpeg"])
    samples = Generated(contents.__getitem__, np.zeros(len(contents), np.int64), "made")
    with tempfile.TemporaryDirectory() as name:
        manifest = build_dataset(
            SampleSource("made", ["a"], {"train": samples}, ""),
            Path(name) / "out",
            on_bad="skip",
            threads=2,
        )
        assert read_manifest(Path(name) / "out") == manifest
        beton = Beton(Path(name) / "out/train.beton")
        assert len(beton) + manifest.rejected == len(contents)
        for index in range(len(beton)):
            shape = np.asarray(
                Image.open(io.BytesIO(beton.bytes_of(index).tobytes())).convert("RGB")
            ).shape
            assert shape == (beton.heights[index], beton.widths[index], 3)
