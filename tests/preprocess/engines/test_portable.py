"""The list of all samples can be sent to a process in another folder, which reads the samples."""

from __future__ import annotations

import io
import pickle
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from slipform.preprocess import prep
from slipform.preprocess.engines.work import ShardWork
from slipform.preprocess.shard_list import ShardList
from slipform.preprocess.source import Arrays, SampleSource
from tests.preprocess.sources import jpeg, write

_READ = """
import os, pickle, sys
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        listed = pickle.load(file)
    assert {"sizes", "sha256"} <= {*vars(listed)}, "they are not asked again"
    for split, samples in listed.source.splits.items():
        read = sum(len(samples.read(index)) for index in range(len(samples.labels)))
        print(os.path.basename(path), split, read, listed.sizes[split].sum())
"""


def _write_sources(folder: Path) -> None:
    """12 images of two classes as folders, as a list, as a tar with samples, and as archives."""
    for index in range(12):
        write(folder / f"folders/{'ab'[index % 2]}/{index}.jpg", jpeg(index) + bytes(index))
    shutil.copytree(folder / "folders", folder / "list/images")
    rows = [f"images/{'ab'[index % 2]}/{index}.jpg,{'ab'[index % 2]}" for index in range(12)]
    write(folder / "list/list.csv", "path,label\n" + "\n".join(rows) + "\n")
    with tarfile.open(folder / "samples.tar", "w") as tar:
        for index in range(12):
            for ending, content in (("jpg", jpeg(index)), ("cls", b"ab"[index % 2 :][:1])):
                member = tarfile.TarInfo(f"{index}.{ending}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    shutil.make_archive(str(folder / "archive"), "zip", folder / "folders")


def test_lists_are_valid_in_other_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write_sources(tmp_path)
    monkeypatch.chdir(tmp_path)
    portable, expected, kind = dict[str, bool](), list[str](), ""

    def keep(work: ShardWork, samples: SampleSource, engine: str, *, show: bool) -> None:
        portable[kind] = work.portable
        if not work.portable:
            return
        listed = ShardList(samples).complete()
        (tmp_path / f"{kind}.pickle").write_bytes(pickle.dumps(listed))
        for split, found in samples.splits.items():
            read = sum(len(found.read(index)) for index in range(len(found.labels)))
            expected.append(f"{kind}.pickle {split} {read} {listed.sizes[split].sum()}")

    monkeypatch.setattr(prep, "write_shards", keep)
    for kind in ("folders", "list", "samples.tar", "archive.zip"):
        prep.prepare("images", source=kind, out="out", shards=2)
    assert portable == {"folders": True, "list": True, "samples.tar": True, "archive.zip": False}
    paths = [str(tmp_path / f"{kind}.pickle") for kind, sent in portable.items() if sent]
    done = subprocess.run(
        [sys.executable, "-P", "-c", _READ, *paths], cwd="/", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == expected
    assert len(expected) == 3 * 2  # train and test of each


def test_arrays_are_sent_whole() -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 5, 3), np.uint8)
    source = SampleSource("made", ["a"], {"train": Arrays(images, np.zeros(6, np.int64), "x")}, "")
    sent = pickle.loads(pickle.dumps(ShardList(source).complete()))
    assert (sent.source.splits["train"].block(2, 5) == images[2:5]).all()
