"""`prep merge` accepts complete shards of one dataset, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from slipform.pipelines.errors import DatasetError
from slipform.preprocess import shards
from slipform.preprocess.build import build_dataset
from slipform.preprocess.merge import merge
from slipform.preprocess.shard_record import Shard
from tests.preprocess.made import COUNT, made, write_all


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All shards, which are not merged."""
    folder = tmp_path_factory.mktemp("finished")
    for number in range(1, COUNT + 1):
        shards.write_shard(made(), folder, Shard(number, COUNT))
    return folder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("missing", "2 of 5 shards are not finished: 2/5, 4/5. Run"),
        ("none", "has no finished shard. Write shards first"),
        ("version", r"shards 1/5 and 4/5 do not belong together \(other versions of slipform\)"),
        ("list", r"shards 1/5 and 4/5 do not belong together \(other lists of images\)"),
        ("byte", "train-00004-of-00005.beton is not the file that prep wrote: its SHA-256 differs"),
        ("table", "train-00004-of-00005.crc32.npy"),
        ("names", "val-00004-of-00005.names.txt is not the file that prep wrote"),
        ("record", "shard-00004-of-00005.json is damaged"),
        ("exchanged", "shard-00004-of-00005.json is the record of shard 3/5"),
        ("counts", "has shards of datasets with 5 and 6 shards"),
    ],
)
def test_merge_refuses_what_is_not_complete(
    finished: Path, tmp_path: Path, change: str, message: str
) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    records = {number: tmp_path / Shard(number, COUNT).record for number in range(1, 6)}
    record = json.loads(records[4].read_text())
    beton = tmp_path / "train-00004-of-00005.beton"
    if change == "missing":
        records[2].unlink()
        records[4].unlink()
    elif change == "none":
        for path in records.values():
            path.unlink()
    elif change in ("version", "list"):
        record["slipform" if change == "version" else "source_sha256"] = "0.0.1"
        records[4].write_text(json.dumps(record))
    elif change == "byte":
        content = bytearray(beton.read_bytes())
        content[40] ^= 1  # in the name of a field, which nothing reads
        beton.write_bytes(content)
    elif change == "table":
        beton.with_suffix(".crc32.npy").unlink()
    elif change == "names":
        (tmp_path / "val-00004-of-00005.names.txt").write_text("other\n")
    elif change == "record":
        records[4].write_text("{")
    elif change == "exchanged":
        records[4].write_text(records[3].read_text())
    else:
        (tmp_path / Shard(1, 6).record).write_text("{}")
    with pytest.raises(DatasetError, match=message):
        merge(tmp_path)
    assert not (tmp_path / "dataset.json").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sums", [1, 2]),
        ("sums", [-1, 2, 3]),
        ("sums", [1, 2, 1 << 80]),
        ("squares", [1, 2, 1 << 80]),
        ("squares", []),
        ("num_pixels", -1),
        ("num_pixels", 0),
        ("number", 0),
        ("count", 1 << 40),
        ("rejected", [{}]),
        ("manifest", {}),
        ("left_out", [["a"]]),
    ],
)
def test_a_record_with_wrong_values_is_damaged(tmp_path: Path, name: str, value: Any) -> None:
    shards.write_shard(made(), tmp_path, Shard(1, 1))
    path = tmp_path / Shard(1, 1).record
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))
    with pytest.raises(DatasetError, match=r"shard-00001-of-00001\.json is damaged"):
        merge(tmp_path)
    assert shards.write_shard(made(), tmp_path, Shard(1, 1))[1]
    assert merge(tmp_path).split("train").num_samples == 37


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("counts", None),  # one image more of a class, one less of another
        ("modes", {"jpg": 8, "raw": 0}),
        ("min_height", 1),
        ("min_width", 1),
        ("max_height", 1),
        ("max_width", 10_000),
        ("bytes", 1),
    ],
)
def test_a_record_whose_counts_are_not_those_of_its_beton(
    tmp_path: Path, name: str, value: Any
) -> None:
    """The table of the beton has the truth. The shard is written again."""
    for number in (1, 2):
        shards.write_shard(made(), tmp_path, Shard(number, 2))
    path = tmp_path / Shard(2, 2).record
    record = json.loads(path.read_text())
    train = record["manifest"]["splits"]["train"]
    first, *others = train["counts"]
    train[name] = [first - 1, others[0] + 1, *others[1:]] if name == "counts" else value
    path.write_text(json.dumps(record))
    with pytest.raises(DatasetError, match=rf"train-00002-of-00002\.beton says {name} = .*Delete"):
        merge(tmp_path)
    assert shards.write_shard(made(), tmp_path, Shard(2, 2))[1]
    assert merge(tmp_path).split("train").num_samples == 37


def test_merge_may_be_repeated_and_a_merged_folder_may_be_replaced(tmp_path: Path) -> None:
    write_all(made(), tmp_path / "out")
    first = (tmp_path / "out/dataset.json").read_bytes()
    merge(tmp_path / "out")
    assert (tmp_path / "out/dataset.json").read_bytes() == first
    assert not shards.write_shard(made(), tmp_path / "out", Shard(1, COUNT))[1]
    build_dataset(made(), tmp_path / "out")
    with pytest.raises(DatasetError, match="without shards: there is nothing to merge"):
        merge(tmp_path / "out")
    assert "train.beton" in os.listdir(tmp_path / "out")
    assert not list((tmp_path / "out").glob("*-of-*"))
