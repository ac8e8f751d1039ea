"""Damaged and hostile archives: no file is written outside the folder, and all errors are clear."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given

from slipform.pipelines.errors import DatasetError
from slipform.preprocess.archive import unpack
from tests.preprocess.mutations import BOUNDED, checked_file, mutations


def tar_with(*members: tuple[str, dict[str, object]]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, attributes in members:
            info = tarfile.TarInfo(name)
            info.size = 5
            for key, value in attributes.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(b"hello" if info.isreg() else b""))
    return file.getvalue()


HOSTILE_TARS: dict[str, list[tuple[str, dict[str, object]]]] = {
    "above": [("../evil", {})],
    "absolute": [("{outside}/evil", {})],
    "link": [
        ("a", {"type": tarfile.SYMTYPE, "linkname": "../..", "size": 0}),
        ("a/evil", {}),
    ],
    "hard link": [("a", {"type": tarfile.LNKTYPE, "linkname": "../../etc/passwd", "size": 0})],
    "device": [("a", {"type": tarfile.CHRTYPE, "size": 0})],
}


def hostile_tar(kind: str, outside: Path) -> bytes:
    """One of `HOSTILE_TARS`. The absolute path is in the folder `outside`."""
    members = HOSTILE_TARS[kind]
    return tar_with(*((name.format(outside=outside), given) for name, given in members))


@pytest.mark.parametrize("kind", HOSTILE_TARS)
def test_tars_cannot_write_elsewhere(tmp_path: Path, kind: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "evil.tar").write_bytes(hostile_tar(kind, tmp_path))
    with pytest.raises(DatasetError, match="Do not trust it"):
        unpack(tmp_path / "evil.tar", tmp_path / "in")
    assert sorted(os.listdir(tmp_path)) == ["evil.tar", "in"]


@pytest.mark.parametrize("name", ["../evil", "{outside}/evil", "a/../../evil", "..\\evil"])
def test_zips_cannot_write_elsewhere(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as zipped:
        zipped.writestr(name.format(outside=tmp_path), b"hello")
    with pytest.raises(DatasetError, match="outside its folder"):
        unpack(tmp_path / "evil.zip", tmp_path / "in")
    assert sorted(os.listdir(tmp_path)) == ["evil.zip", "in"]


def archive(kind: str) -> bytes:
    file = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as zipped:
            zipped.writestr("a/b.txt", b"hello" * 20)
        return file.getvalue()
    plain = tar_with(("a/b.txt", {}))
    return gzip.compress(plain) if kind == "tar.gz" else plain


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_damaged_archives(kind: str) -> None:
    @given(mutations(archive(kind)))
    @BOUNDED
    def check(data: bytes) -> None:
        def read(path: Path) -> object:
            (path.parent / "in").mkdir()
            unpack(path, path.parent / "in")
            assert sorted(os.listdir(path.parent)) == ["in", path.name]
            return True

        checked_file(data, read, f"x.{kind}")

    check()


@pytest.mark.parametrize("error", [IndexError("x"), KeyError("x"), AssertionError(), EOFError()])
def test_any_exception_of_a_reader_means_damage(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """zipfile raises an IndexError for a truncated extra field, for example."""
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as zipped:
        zipped.writestr("a", b"hello")

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(zipfile.ZipFile, "open", fail)
    (tmp_path / "in").mkdir()
    with pytest.raises(DatasetError, match="is damaged"):
        unpack(tmp_path / "x.zip", tmp_path / "in")


@pytest.mark.parametrize("ending", ["tar", "tar.gz"])
@pytest.mark.parametrize("cut", [1, 511, 512, 1000])
def test_a_tar_that_ends_early_is_damaged(tmp_path: Path, ending: str, cut: int) -> None:
    """Python's reader ends silently where a header is damaged or missing."""
    data = tar_with(("a", {}), ("b", {}))
    damaged = data[: 1024 + cut] if cut != 511 else data[:1024] + b"\1" * 512 + data[1536:]
    path = tmp_path / f"x.{ending}"
    path.write_bytes(gzip.compress(damaged) if ending == "tar.gz" else damaged)
    (tmp_path / "in").mkdir()
    with pytest.raises(DatasetError, match="is damaged"):
        unpack(path, tmp_path / "in")
