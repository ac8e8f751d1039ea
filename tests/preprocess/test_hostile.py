"""Small hostile files that would need much memory: they are refused with a clear error."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import resource
import signal
import subprocess
import sys
import tarfile
import tempfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from slipform.pipelines.errors import DatasetError
from slipform.pipelines.manifest import read_manifest
from slipform.preprocess import archive
from slipform.preprocess.archive import unpack, unpacked
from slipform.preprocess.idx import read_idx
from slipform.preprocess.pickles import read_pickle

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}


def in_a_process(code: str, *arguments: object, limit_bytes: int = 2 << 30) -> str:
    """Run a program with a limit of address space above that of its imports. Returns its output."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))

    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=ENVIRONMENT,
        preexec_fn=limit,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    return done.stdout


def nested(depth: int) -> dict[str, bytes]:
    """Pickles nested so deep that hashing, comparing or freeing the result overflows the stack."""
    return {
        "key of tuples": b"\x80\x02}" + b")" + b"\x85" * depth + b"K\x01s.",
        "lists": b"\x80\x02}U\x04data" + b"]" * depth + b"a" * (depth - 1) + b"s.",
        "tuples": b"\x80\x02}U\x04data)" + b"\x85" * depth + b"s.",
        "reduced": b"\x80\x02}U\x04data"
        + b"c_codecs\nencode\n" * 1
        + b")"
        + b"\x85" * depth
        + b"R"
        + b"s.",
        "calls": b"\x80\x02}U\x04data"
        + b"cnumpy\ndtype\n" * depth
        + b")"
        + b"R\x85" * depth
        + b"s.",
    }


def test_deeply_nested_pickles(tmp_path: Path) -> None:
    for kind, data in nested(500_000).items():
        (tmp_path / kind).write_bytes(data)
    code = (
        "import sys; from pathlib import Path\n"
        "from slipform.preprocess.pickles import read_pickle\n"
        "from slipform.pipelines.errors import DatasetError\n"
        "for name in sys.argv[1:]:\n"
        "    print(name, flush=True)\n"
        "    try: read_pickle(Path(name))\n"
        "    except DatasetError as error: print(error.message)\n"
    )
    paths = [tmp_path / kind for kind in nested(1)]
    assert in_a_process(code, *paths).count("trusted") == len(paths)


def test_pickles_of_the_real_shape_are_read(tmp_path: Path) -> None:
    batch = {b"labels": list(range(10)) * 1000, b"filenames": [f"{i}.png" for i in range(10_000)]}
    (tmp_path / "batch").write_bytes(pickle.dumps(batch, protocol=2))
    assert read_pickle(tmp_path / "batch")[b"labels"] == batch[b"labels"]


def tar_with_a_header_of(size: int, kind: bytes) -> bytes:
    info = tarfile.TarInfo("header")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    "kind",
    [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK],
)
@pytest.mark.parametrize("first", [True, False])
def test_tars_with_huge_headers(tmp_path: Path, kind: bytes, first: bool) -> None:
    path = tmp_path / "x.tar.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        if not first:
            info = tarfile.TarInfo("a.txt")
            file.write(info.tobuf(tarfile.GNU_FORMAT))
        file.write(tar_with_a_header_of(1 << 30, kind))
        for _ in range(16):  # of the 1,024 declared bytes
            file.write(bytes(1 << 20))
    (tmp_path / "in").mkdir()
    with pytest.raises(DatasetError, match="header of 1,073,741,824 bytes"):
        unpack(path, tmp_path / "in")


def test_sparse_tars_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(
        tar_with_a_header_of(512, tarfile.GNUTYPE_SPARSE) + bytes(2048)
    )
    (tmp_path / "in").mkdir()
    with pytest.raises(DatasetError, match="sparse"):
        unpack(tmp_path / "x.tar", tmp_path / "in")


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_more_files_than_a_dataset_has(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "_MAX_FILES", 9)
    for count in (9, 10):
        path, folder = tmp_path / f"{count}.{kind}", tmp_path / f"{count}"
        folder.mkdir()
        if kind == "tar":
            with tarfile.open(path, "w") as tar:
                for k in range(count):
                    tar.addfile(tarfile.TarInfo(f"{k}.txt"), io.BytesIO())
        else:
            with zipfile.ZipFile(path, "w") as zipped:
                for k in range(count):
                    zipped.writestr(f"{k}.txt", b"")
        if count == 9:
            unpack(path, folder)
            assert len(os.listdir(folder)) == 9
        else:
            with pytest.raises(DatasetError, match="more than 9 files"):
                unpack(path, folder)


def test_the_members_of_a_tar_are_not_kept(tmp_path: Path) -> None:
    """20,000 members would take 20 MB."""
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        info = tarfile.TarInfo("folder")
        info.type = tarfile.DIRTYPE
        for _ in range(20_000):
            tar.fileobj.write(info.tobuf())  # type: ignore[union-attr]
    (tmp_path / "in").mkdir()
    tracemalloc.start()
    try:
        unpack(tmp_path / "x.tar", tmp_path / "in")
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_a_gzip_that_unpacks_to_gigabytes(tmp_path: Path) -> None:
    path = tmp_path / "x-idx3-ubyte.gz"
    header = bytes([0, 0, 8, 3]) + (1 << 30).to_bytes(4, "big") + b"\0\0\0\1" * 2
    path.write_bytes(gzip.compress(header + bytes(1 << 20)))
    with pytest.raises(DatasetError, match="empty or too large"):
        read_idx(path, 3)


def test_a_fifo_is_no_archive(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.tar")
    with pytest.raises(DatasetError, match="regular file"), unpacked(tmp_path / "x.tar"):
        pass


def test_unpacked_files_of_a_killed_process_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("a.txt"), io.BytesIO())
    code = (
        "import sys; from pathlib import Path\n"
        "from slipform.preprocess.archive import unpacked\n"
        "with unpacked(Path(sys.argv[1])): print('ready', flush=True); input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "x.tar")],
        env=ENVIRONMENT | {"TMPDIR": str(tmp_path / "temporary")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        with unpacked(tmp_path / "x.tar") as folder:  # the other process is alive: both stay
            assert len(os.listdir(tmp_path / "temporary")) == 2
            assert os.listdir(folder) == ["a.txt"]
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len(os.listdir(tmp_path / "temporary")) == 1
    with unpacked(tmp_path / "x.tar"):
        assert len(os.listdir(tmp_path / "temporary")) == 1
    assert os.listdir(tmp_path / "temporary") == []


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"a":' * 100_000, b'{"version": NaN}'])
def test_manifests_nested_deep_or_without_sense(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "dataset.json").write_bytes(content)
    with pytest.raises(DatasetError, match="damaged"):
        read_manifest(tmp_path)
