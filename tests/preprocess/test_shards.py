"""`prep --shard K/N` and `prep merge`: the dataset of one prep, written by many."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from slipform.pipelines.dataset import open_dataset
from slipform.pipelines.errors import ConfigError, DatasetError
from slipform.pipelines.loader import Loader
from slipform.pipelines.manifest import read_manifest
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.preprocess import shards
from slipform.preprocess.build import build_dataset
from slipform.preprocess.cli import main
from slipform.preprocess.encode import Encoding
from slipform.preprocess.merge import merge
from slipform.preprocess.shard_list import ShardList
from slipform.preprocess.shard_record import Shard
from slipform.preprocess.source import Files, Generated, SampleSource
from slipform.preprocess.verify import find_faults
from tests.preprocess.made import COUNT, described, made, write_all
from tests.preprocess.sources import jpeg, write
from tests.warm import Warm


@pytest.mark.parametrize(
    ("labels", "encoding"),
    [
        ("single", Encoding()),
        ("multi", Encoding("jpeg", max_side=16)),
        pytest.param("single", Encoding("jpeg", max_side=16), marks=pytest.mark.slow),
        pytest.param("multi", Encoding(), marks=pytest.mark.slow),
        *(pytest.param(x, Encoding("raw"), marks=pytest.mark.slow) for x in ("single", "multi")),
    ],
)
def test_the_merged_dataset_is_the_one_of_one_prep(
    tmp_path: Path, labels: str, encoding: Encoding
) -> None:
    """Also with samples that are left out: manifest, reports, samples and batches are equal."""
    source = made(labels, bad=(3, 20, 21, 39))
    whole = build_dataset(source, tmp_path / "whole", encoding, on_bad="skip")
    merged = write_all(source, tmp_path / "shards", encoding=encoding, on_bad="skip")
    assert read_manifest(tmp_path / "shards") == merged
    assert described(merged) == described(whole)
    for name in ("report.txt", "rejected.csv"):
        assert (tmp_path / "shards" / name).read_text() == (tmp_path / "whole" / name).read_text()
    assert list(find_faults(tmp_path / "shards", merged)) == []
    one, several = (open_dataset(tmp_path / name) for name in ("whole", "shards"))
    for split in ("train", "val"):
        assert len(merged.split(split).shards) == COUNT
        assert merged.split(split).bytes == sum(
            (tmp_path / "shards" / file.file).stat().st_size for file in merged.split(split).shards
        )
        for index in range(len(one.beton(split))):
            assert several.targets(split, index).tolist() == one.targets(split, index).tolist()
            a, b = (data.beton(split).bytes_of(index).tobytes() for data in (one, several))
            assert a == b
    assert torch.equal(_epoch(tmp_path / "whole"), _epoch(tmp_path / "shards"))


def _epoch(folder: Path) -> torch.Tensor:
    spec = Augmentation(image_size=16, crop="random_resized", flip="horizontal")
    with Loader(folder, "train", spec, batch_size=4, seed=3, threads=1) as loader:
        return torch.cat([batch.images for batch in loader])


@pytest.mark.parametrize("bad", [pytest.param((), marks=pytest.mark.slow), (*range(5, 10), 40)])
def test_shards_may_have_no_samples(tmp_path: Path, bad: tuple[int, ...]) -> None:
    """There are more shards than samples of val, or all samples of a shard are left out."""
    source, out = made(bad=bad), tmp_path / "shards"
    whole = build_dataset(source, tmp_path / "whole", on_bad="skip")
    merged = write_all(source, out, count=20, on_bad="skip")
    assert described(merged) == described(whole)
    for split in ("train", "val") if bad else ("val",):
        assert 0 in [one.num_samples for one in merged.split(split).shards]
    assert list(find_faults(out, merged)) == []
    assert torch.equal(_epoch(tmp_path / "whole"), _epoch(out))
    for number in range(1, 21):
        assert not shards.write_shard(source, out, Shard(number, 20), on_bad="skip")[1]


def test_a_finished_shard_is_skipped_and_a_damaged_one_is_written_again(tmp_path: Path) -> None:
    source, shard = made(), Shard(2, COUNT)
    shards.write_shard(source, tmp_path, shard)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    times = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert not shards.write_shard(source, tmp_path, shard, threads=2)[1]
    assert times == {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    for name, content in before.items():
        for damaged in (content[:-3], b"", None):
            path = tmp_path / name
            path.unlink() if damaged is None else path.write_bytes(damaged)
            assert shards.write_shard(source, tmp_path, shard)[1], (name, damaged)
            assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


_KILLED = """
import os, signal, sys
from pathlib import Path
from slipform.preprocess import shards
from slipform.preprocess.shard_list import ShardList
from slipform.preprocess.shard_record import Shard
from tests.preprocess.made import made
where, done = sys.argv[2], 0
def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)
replace = os.replace
def replaced(*paths):
    global done
    replace(*paths)
    done += Path(paths[1]).parent == Path(sys.argv[1])
    if where == "moving" and done == 3:
        kill()
os.replace = replaced
progress = kill if where == "writing" else (lambda num: None)
shards.write_shard(made(), Path(sys.argv[1]), Shard(2, 5), progress=progress)
"""


@pytest.mark.parametrize("where", ["writing", "moving"])
def test_a_killed_worker_is_repeated(tmp_path: Path, where: str, warm_process: Warm) -> None:
    """It leaves no finished shard. The next one removes what it left, and writes the same bytes."""
    out = tmp_path / "out"
    ended = warm_process.run(_KILLED, out, where)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert any(path.name.startswith(".shard-00002") for path in out.iterdir())
    moved = [path for path in out.iterdir() if path.is_file()]
    assert len(moved) == (3 if where == "moving" else 0)
    assert not (out / Shard(2, COUNT).record).exists()
    with pytest.raises(DatasetError, match="has no finished shard"):
        merge(out)
    assert shards.write_shard(made(), out, Shard(2, COUNT))[1]
    shards.write_shard(made(), tmp_path / "other", Shard(2, COUNT))
    found, expected = (
        {path.name: path.read_bytes() for path in folder.iterdir()}
        for folder in (out, tmp_path / "other")
    )
    assert found == expected


def test_two_workers_may_write_one_shard_at_the_same_time(
    tmp_path: Path, warm_process: Warm
) -> None:
    script = _KILLED.replace("done == 3", "False")
    warm = warm_process
    workers = [warm.start(script, tmp_path / "out", "nowhere") for _ in range(2)]
    assert [warm.wait(worker).returncode for worker in workers] == [0, 0]
    assert not shards.write_shard(made(), tmp_path / "out", Shard(2, COUNT))[1]
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


@given(st.lists(st.integers(0, 1000), max_size=60), st.integers(1, 12))
def test_shards_are_balanced_by_bytes(sizes: list[int], count: int) -> None:
    """They divide the samples in order. Each has its share, up to the bytes of one sample."""
    given_sizes = {"train": np.array(sizes, np.int64)}
    found = [shards.shard_parts(given_sizes, Shard(k + 1, count))["train"] for k in range(count)]
    assert [index for part in found for index in part] == list(range(len(sizes)))
    bytes_of = [sum(max(1, sizes[index]) for index in part) for part in found]
    share = sum(bytes_of) / count
    assert all(abs(size - share) <= max([1, *sizes]) + 1 for size in bytes_of)


def test_large_files_are_balanced_by_their_bytes(tmp_path: Path) -> None:
    sizes = [100] * 30 + [20_000] * 10
    for index, size in enumerate(sizes):
        write(tmp_path / f"{index:02d}.jpg", jpeg(index) + bytes(size))
    paths = [f"{index:02d}.jpg" for index in range(40)]
    files = Files(tmp_path, paths, np.arange(40) % 2)
    source = SampleSource("made", ["a", "b"], {"train": files}, "")
    manifest = shards.write_shard(source, tmp_path / "out", Shard(2, 2))[0]
    assert manifest.split("train").num_samples in (5, 6)


def test_the_sizes_of_many_samples_are_in_their_order(tmp_path: Path) -> None:
    for index in range(600):
        write(tmp_path / str(index), bytes(index))
    files = Files(tmp_path, [str(index) for index in range(600)], np.zeros(600, np.int64))
    source = SampleSource("made", ["a"], {"train": files}, "")
    assert ShardList(source).sizes["train"].tolist() == list(range(600))


def test_names_that_utf_8_does_not_have(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 in the name of a file, and the half of a pair in a list."""
    for name in ("\udcff.jpg", "\ud800.jpg"):
        labels = np.zeros(4, np.int64)
        samples = Generated(jpeg, labels, name)
        source = SampleSource("made", ["a"], {"train": samples}, "")
        out = tmp_path / ascii(name)
        for number in (1, 2):
            shards.write_shard(source, out, Shard(number, 2))
        assert merge(out).split("train").num_samples == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("options", r"holds shard 1/5 of another dataset \(other options: quality = 90 and 95\)"),
        (
            "encoding",
            r"holds shard 1/5 of another dataset \(other options: encoding = raw and keep",
        ),
        ("list", r"holds shard 1/5 of another dataset \(other lists of images\)"),
        ("count", r"holds shard 1/5 of another dataset \(other numbers of shards\)"),
        ("whole", "holds a dataset without shards"),
    ],
)
def test_shards_of_another_dataset_are_refused(tmp_path: Path, change: str, message: str) -> None:
    """By the worker of any shard, before it writes."""
    source, out, number = made(), tmp_path / "out", Shard(1, COUNT)
    if change == "whole":
        build_dataset(source, out)
    else:
        shards.write_shard(source, out, number)
    before = sorted(os.listdir(out))
    other = made(label=1) if change == "list" else source
    for shard in (Shard(1, 6), Shard(3, 6)) if change == "count" else (number, Shard(3, COUNT)):
        encoding = {"options": Encoding(quality=90), "encoding": Encoding("raw")}.get(
            change, Encoding()
        )
        with pytest.raises(DatasetError, match=message):
            shards.write_shard(other, out, shard, encoding)
    assert sorted(os.listdir(out)) == before


def test_an_unusable_sample_ends_its_shard_only(tmp_path: Path) -> None:
    source = made(bad=(1,))
    with pytest.raises(DatasetError, match=r"1 samples cannot be used.*\n.*train made:1"):
        shards.write_shard(source, tmp_path, Shard(1, COUNT))
    assert list(tmp_path.iterdir()) == []
    assert shards.write_shard(source, tmp_path, Shard(2, COUNT))[1]


@pytest.mark.parametrize("text", ["0/4", "5/4", "1/0", "3", "a/b", "1/100000", "-1/4", ""])
def test_wrong_shards_are_explained(text: str) -> None:
    with pytest.raises(ConfigError, match="give K/N"):
        Shard.parse(text)


def test_the_commands(tmp_path: Path) -> None:
    def run(*words: str, code: int = 0) -> str:
        result = CliRunner().invoke(main, words)
        assert result.exit_code == code, result.output
        return result.output

    out = str(tmp_path / "out")
    shapes = ["shapes", "--num-train", "30", "--out", out]
    for number in (1, 2, 3):
        assert f"shard {number}/3: written" in run(*shapes, "--shard", f"{number}/3")
    assert "was finished before" in run(*shapes, "--shard", "2/3")
    assert f"slipform train {out}" in run("merge", out)
    assert "no fault" in run("verify", out)
    assert "30" in run("show", out)
    assert "give K/N" in run(*shapes, "--shard", "4/3", code=1)


def test_a_full_disk_is_an_error_that_names_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No shard is there, and none of its files."""
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("slipform.preprocess.writer.BetonWriter._write", _full)
        with pytest.raises(OSError, match=rf"No space left on device: '{out}'"):
            shards.write_shard(made(), out, Shard(1, 2))
    assert os.listdir(out) == []
    assert shards.write_shard(made(), out, Shard(1, 2))[1]


def _full(*_: object) -> None:
    raise OSError(28, "No space left on device")
