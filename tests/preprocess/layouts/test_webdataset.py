"""WebDataset tars, written by hand and by the library webdataset."""

from __future__ import annotations

import gc
import gzip
import io
import json
import os
import sys
import tarfile
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from slipform.pipelines.dataset import open_dataset
from slipform.preprocess.layouts.contract import Hints
from slipform.preprocess.layouts.tar_samples import read_tars
from slipform.preprocess.listing import Listing
from tests.open_files import open_files, open_names
from tests.preprocess.sources import jpeg, prep, stored, write

ANIMALS = ("cat", "dog")


def tar(members: dict[str, bytes | str]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as out:
        for name, content in members.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))
    return file.getvalue()


def samples(numbers: range, ending: str = "cls", **label: Any) -> dict[str, bytes | str]:
    members: dict[str, bytes | str] = {}
    for k in numbers:
        members[f"a/{k:03d}.{ending}"] = (
            json.dumps({"width": 8, "label": ANIMALS[k % 2]})
            if ending == "json"
            else ANIMALS[k % 2] + "\n"
        )
        members[f"a/{k:03d}.jpg"] = jpeg(k)
    return members


def expected(name: str, numbers: range) -> list[tuple[str, str, bytes]]:
    return [(f"{name}:a/{k:03d}.jpg", ANIMALS[k % 2], jpeg(k)) for k in numbers]


@pytest.mark.parametrize("ending", ["cls", "json", "txt"])
def test_shards_and_splits(tmp_path: Path, ending: str) -> None:
    raw = tmp_path / "raw"
    write(raw / "train-000000.tar", tar(samples(range(4), ending)))
    write(raw / "train-000001.tar", tar(samples(range(4, 6), ending)))
    write(raw / "val/000000.tar", tar(samples(range(6, 8), ending)))
    write(raw / "test.tar.gz", gzip.compress(tar(samples(range(8, 9), ending))))
    assert "4 WebDataset tars" in prep(raw)
    assert stored(raw) == {
        "train": expected("train-000000.tar", range(4)) + expected("train-000001.tar", range(4, 6)),
        "val": expected("val/000000.tar", range(6, 8)),
        "test": expected("test.tar.gz", range(8, 9)),
    }


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "test-0.tgz"])
def test_one_tar_is_a_source(tmp_path: Path, name: str) -> None:
    data = tar(samples(range(4)))
    prep(write(tmp_path / name, data if name == "x.tar" else gzip.compress(data)))
    assert stored(tmp_path / name) == {"train": expected(name, range(4))}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # they close late
@pytest.mark.usefixtures("collected")
def test_what_the_library_webdataset_writes(tmp_path: Path, needs: Callable[[str], None]) -> None:
    needs("webdataset")
    import webdataset

    raw = tmp_path / "raw"
    raw.mkdir()
    pattern = str(raw / "train-%06d.tar")
    with webdataset.ShardWriter(pattern, maxcount=4, verbose=0) as writer:
        for k in range(10):
            writer.write({"__key__": f"{k:04d}", "jpg": jpeg(k), "cls": k % 3})
    write(raw / "classnames.txt", "zebra\ncat\ndog\n")
    prep(raw)
    shards = [str(path) for path in sorted(raw.glob("*.tar"))]
    theirs = [*webdataset.WebDataset(shards, shardshuffle=False).to_tuple("jpg", "cls")]
    names = ["zebra", "cat", "dog"]
    assert [(label, data) for _, label, data in stored(raw)["train"]] == [
        (names[int(label)], data) for data, label in theirs
    ]
    assert open_dataset(tmp_path / "raw-out").manifest.classes == names


def test_every_member_is_used_or_named(tmp_path: Path) -> None:
    members = samples(range(2)) | {
        "a/000.json": "{}",
        "a/000.png": jpeg(5),
        "a/001.mask.png": jpeg(5),
        "a/002.jpg": jpeg(2),
        "a/003.cls": "cat",
        "a/.004.jpg": jpeg(4),
        "__meta__.json": "{}",
    }
    write(tmp_path / "raw/x.tar", tar(members))
    write(tmp_path / "raw/readme.txt", "hello")
    prep(tmp_path / "raw")
    assert stored(tmp_path / "raw") == {"train": expected("x.tar", range(2))}
    report = (tmp_path / "raw-out/report.txt").read_text()
    for text in (
        "x.tar:a/000.json: the label comes from .cls",
        "x.tar:a/000.png: second image of a sample",
        "x.tar:a/001.mask.png: neither image nor label (.mask.png)",
        "x.tar:a/002.jpg: it has no label",
        "x.tar:a/003.cls: label without an image",
        "x.tar:a/.004.jpg: hidden file",
        "x.tar:__meta__.json: metadata of the tar",
        "readme.txt: file beside the tars",
    ):
        assert text in report, text


def test_the_key_of_json(tmp_path: Path) -> None:
    members: dict[str, bytes | str] = {}
    for k in range(4):
        members |= {f"{k}.jpg": jpeg(k), f"{k}.json": json.dumps({"label": 7, "kind": [k % 2, 2]})}
    write(tmp_path / "raw/x.tar", tar(members))
    prep(tmp_path / "raw", "--label-column", "kind")
    manifest = open_dataset(tmp_path / "raw-out").manifest
    assert (manifest.labels, manifest.splits["train"].label_counts) == ("multi", [2, 2, 4])


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"1.jpg": b"", "1.cls": b"\xff"}, "1.cls cannot be read"),
        ({"1.jpg": b"", "1.json": "[" * 100_000}, "1.json cannot be read"),
        ({"1.jpg": b"", "1.json": "1.5"}, "a measurement"),
        ({"1.jpg": b"", "1.cls": b"0" * (2 << 20)}, "1.cls has 2,097,152 bytes"),
        ({"1.jpg": b"", "1.json": "{}"}, "no image can be used"),
    ],
)
def test_labels_that_cannot_be_read(
    tmp_path: Path, members: dict[str, bytes | str], words: str
) -> None:
    write(tmp_path / "raw/x.tar", tar(members))
    assert words in prep(tmp_path / "raw", code=1)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    path = write(tmp_path / "raw/x.tar", tar(samples(range(30))))
    info = tarfile.TarInfo("a/9.jpg")
    info.type, info.linkname = kind, "/etc/passwd"
    with tarfile.open(path, "a") as opened:
        opened.addfile(info)
    before = sorted(os.listdir(tmp_path))
    assert "Do not trust it" in prep(tmp_path / "raw", "--layout", "webdataset", code=1)
    assert sorted(os.listdir(tmp_path)) == before


def test_names_that_lead_elsewhere_are_names(tmp_path: Path) -> None:
    """No name in a tar is opened or written."""
    members = {"../../1.jpg": jpeg(1), "../../1.cls": "a", "/2.jpg": jpeg(2), "/2.cls": "b"}
    write(tmp_path / "raw/x.tar", tar(members))
    prep(tmp_path / "raw")
    assert [data for _, _, data in stored(tmp_path / "raw")["train"]] == [jpeg(1), jpeg(2)]
    assert sorted(os.listdir(tmp_path)) == ["raw", "raw-out"]


@pytest.mark.parametrize("cut", [0.3, 0.501, 0.7])  # within a member, a header, a member
def test_a_tar_that_is_cut_short(tmp_path: Path, cut: float) -> None:
    data = tar(samples(range(40)))
    write(tmp_path / "raw/x.tar", data[: int(len(data) * cut)])
    text = prep(tmp_path / "raw", code=1)
    assert "x.tar" in text
    assert "is damaged" in text


def test_archives_of_class_folders_stay_archives(tmp_path: Path) -> None:
    members = {f"{ANIMALS[k % 2]}/{k}.jpg": jpeg(k) for k in range(6)}
    prep(write(tmp_path / "x.tar", tar(members)))
    assert next(name for name, _, _ in stored(tmp_path / "x.tar")["train"]) == "cat/0.jpg"


def test_a_label_that_is_replaced_is_named(tmp_path: Path) -> None:
    members = {"1.json": '{"label": "x"}', "1.txt": "y", "1.jpg": jpeg(1), "1.cls": "a"}
    write(tmp_path / "raw/x.tar", tar({**members, "2.jpg": jpeg(2), "2.cls": "b"}))
    prep(tmp_path / "raw")
    assert [label for _, label, _ in stored(tmp_path / "raw")["train"]] == ["a", "b"]
    report = (tmp_path / "raw-out/report.txt").read_text()
    assert "x.tar:1.json: the label comes from .cls" in report
    assert "x.tar:1.txt: the label comes from .json" in report


def test_compressed_tars_take_one_open_file(tmp_path: Path) -> None:
    names = [f"train-{k:02d}.tar.gz" for k in range(20)]
    for k, name in enumerate(names):
        write(tmp_path / name, gzip.compress(tar(samples(range(2 * k, 2 * k + 2)))))
    before = set(open_names())
    rows = read_tars(tmp_path, names, Hints(), Listing())
    assert len(set(open_names()) - before) <= 1
    assert [rows.store.read(k) for k in range(40)] == [jpeg(k) for k in range(40)]


def test_tars_in_an_archive(tmp_path: Path) -> None:
    """They are not unpacked, so samples in two of them may have the same name."""
    inner = {f"data/{k}.tar": tar(samples(range(4))) for k in range(2)}
    path = write(tmp_path / "outer.tar", tar({**inner, "data/readme.txt": "hello"}))
    prep(path)
    assert len(stored(path)["train"]) == 8
    report = (tmp_path / "outer.tar-out/report.txt").read_text()
    assert report.partition("left out:\n")[2] == "  readme.txt: file beside the tars\n"


def test_archives_in_an_archive(tmp_path: Path) -> None:
    """No file of one replaces a file of the other."""
    folders = [{f"{animal}/{k}.jpg": jpeg(k)} for k, animal in enumerate(ANIMALS)]
    inner = {f"{k}.tar": tar({**members}) for k, members in enumerate(folders)}
    path = write(tmp_path / "outer.tar", tar({**inner}))
    prep(path)
    assert [name for name, _, _ in stored(path)["train"]] == ["cat/0.jpg", "dog/1.jpg"]
    assert "left out" not in (tmp_path / "outer.tar-out/report.txt").read_text()
    again = write(tmp_path / "again.tar", tar({**inner, "2.tar": tar({"cat/0.jpg": jpeg(9)})}))
    assert "2.tar holds cat/0.jpg, and another file of this name" in prep(again, code=1)
    same = write(tmp_path / "same.tar", tar({**inner, "2.tar": tar({"cat/0.jpg": jpeg(0)})}))
    prep(same)
    assert len(stored(same)["train"]) == 2
    named = write(tmp_path / "named.tar", tar({**inner, "2.tar": tar({"1.tar": tar({})})}))
    prep(named)  # 1.tar was unpacked before 2.tar
    assert len(stored(named)["train"]) == 2


def test_a_full_disk_while_a_tar_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_collections: None
) -> None:
    """One error, and none in the finalizer of the file."""
    messages: list[Any] = []
    write(tmp_path / "x.tar.gz", gzip.compress(tar(samples(range(2)))))
    with monkeypatch.context() as patch:
        patch.setattr(sys, "unraisablehook", messages.append)
        patch.setattr(tempfile, "TemporaryFile", partial(open, "/dev/full", "w+b", 1 << 20))
        with pytest.raises(OSError, match="No space left on device"):
            read_tars(tmp_path, ["x.tar.gz"], Hints(), Listing())
        gc.collect()
    assert not messages
    assert not [path for path in open_files(Path("/dev")) if path == "/dev/full"]
