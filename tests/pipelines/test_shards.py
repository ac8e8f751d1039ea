"""A split of several betons gives what one beton with the same samples gives, bit for bit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from slipform.pipelines.beton import Beton
from slipform.pipelines.dataset import open_dataset, open_split
from slipform.pipelines.errors import ConfigError, DatasetError, SampleError
from slipform.pipelines.folds import Fold
from slipform.pipelines.label_table import LabelTable
from slipform.pipelines.loader import Loader
from slipform.pipelines.manifest import FILE_NAME, read_manifest
from slipform.pipelines.sample_names import read_names
from slipform.pipelines.samples import open_samples
from slipform.preprocess.build import build_dataset
from slipform.preprocess.source import Generated, SampleSource
from tests.open_files import open_files
from tests.pipelines import folders
from tests.pipelines.epochs import ON_CPU, open_loader
from tests.pipelines.sharded import write_shards

_BOUNDS = [7, 7, 19]  # of four shards: the second one is empty


def _source(kind: str, first: int, count: int) -> Generated:
    def read(index: int) -> bytes | np.ndarray:
        number = first + index
        pixels = folders.smooth(30 + number % 5, 34, number)
        raw = kind == "raw" or (kind == "mixed" and number % 3 == 0)
        return pixels if raw else folders.jpeg(pixels)

    return Generated(read, (np.arange(count) + first) % 3, "made")


@pytest.fixture(scope="module", params=["jpeg", "raw", "mixed"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same samples in one beton for each split, and in four."""
    kind, place = request.param, tmp_path_factory.mktemp("shards")
    splits = {"train": _source(kind, 0, 45), "val": _source(kind, 45, 20)}
    build_dataset(SampleSource("made", list("abc"), splits, ""), place / "whole")
    return [place / "whole", write_shards(place / "whole", place / "shards", _BOUNDS)]


def test_samples_are_those_of_one_file(both: list[Path]) -> None:
    whole, shards = (open_dataset(folder) for folder in both)
    for split in ("train", "val"):
        one, several = whole.beton(split), shards.beton(split)
        assert len(list(several.files())) == 4
        for name in ("labels", "modes", "heights", "widths", "sizes"):
            np.testing.assert_array_equal(getattr(several, name), getattr(one, name))
        np.testing.assert_array_equal(several.read_crc32(), one.read_crc32())
        for index in range(len(one)):
            assert several.bytes_of(index).tobytes() == one.bytes_of(index).tobytes()
            assert several.addresses[index] == several.bytes_of(index).ctypes.data
            several.check_crc32(index)
            np.testing.assert_array_equal(shards.image(split, index), whole.image(split, index))
        assert read_names(both[0], whole.manifest.split(split)) == read_names(
            both[1], shards.manifest.split(split)
        )


@pytest.mark.parametrize("fold", ["", pytest.param("2/3", marks=pytest.mark.slow)])
@pytest.mark.parametrize("executor", ON_CPU)
def test_batches_are_those_of_one_file_bit_for_bit(
    both: list[Path], executor: str, fold: str
) -> None:
    """Two epochs of training in shuffled order, with augmentation. The second loader continues with
    the shards where the first one stopped in the middle of the epoch."""
    manifest = read_manifest(both[0])
    if executor == "dali" and min(manifest.split("train").modes.values()) > 0:
        for folder in both:
            with pytest.raises(ConfigError, match="mixes JPEG and raw samples"):
                open_loader(folder, executor, 4, fold=fold)
        return
    found: list[list[torch.Tensor]] = []
    for first, second in ((both[0], both[0]), (both[1], both[1]), (both[0], both[1])):
        seen: list[torch.Tensor] = []
        with open_loader(first, executor, 4, threads=1, fold=fold) as loader:
            for batch, _ in zip(loader, range(4), strict=False):
                seen += [batch.images.clone(), batch.labels, batch.indices]
            state = loader.state_dict()
        with open_loader(second, executor, 4, threads=1, fold=fold) as loader:
            loader.load_state_dict(state)
            for _ in range(2):
                for batch in loader:
                    seen += [batch.images.clone(), batch.labels, batch.indices]
        found.append(seen)
    assert len(found[0]) > 30
    for other in found[1:]:
        assert len(other) == len(found[0])
        assert all(map(torch.equal, found[0], other))


def test_folds_are_those_of_one_file(both: list[Path]) -> None:
    """A fold takes its samples from all shards of train and val."""
    for split in ("train", "val"):
        one, several = (
            open_samples(folder, read_manifest(folder), split, Fold(1, 3)) for folder in both
        )
        assert several.names() == one.names()
        np.testing.assert_array_equal(several.beton.read_crc32(), one.beton.read_crc32())
        for index in range(len(one.beton)):
            several.beton.check_crc32(index)
            assert several.beton.bytes_of(index).tobytes() == one.beton.bytes_of(index).tobytes()


def test_several_labels_are_those_of_one_file(tmp_path: Path) -> None:
    sets = [[i % 3, (i + 1) % 3] if i % 2 else [] for i in range(30)]
    table = LabelTable.of_sets(sets)
    made = Generated(_source("jpeg", 0, 30).make, table.first(), "made", table)
    source = SampleSource("made", list("abc"), {"train": made}, "")
    build_dataset(source, tmp_path / "whole")
    shards = write_shards(tmp_path / "whole", tmp_path / "shards", _BOUNDS)
    one, several = (open_dataset(folder) for folder in (tmp_path / "whole", shards))
    for index in range(30):
        assert several.targets("train", index).tolist() == one.targets("train", index).tolist()
    counts = [
        open_samples(folder, read_manifest(folder), "train").class_counts
        for folder in (tmp_path / "whole", shards)
    ]
    assert counts[0] == counts[1] == table.class_counts(3)


def test_a_damaged_sample_is_named_by_its_shard(both: list[Path], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(both[1], tmp_path / "copy"))
    place = int(Beton(copy / "train-00003-of-00004.beton").offsets[5])
    with open(copy / "train-00003-of-00004.beton", "r+b") as file:
        file.seek(place + 20)
        byte = file.read(1)[0]
        file.seek(place + 20)
        file.write(bytes([byte ^ 255]))
    for split, fold in (("train", None), ("val", Fold(1, 2)), ("train", Fold(1, 2))):
        beton = open_samples(copy, read_manifest(copy), split, fold).beton
        errors = []
        for index in range(len(beton)):
            try:
                beton.check_crc32(index)
            except SampleError as error:
                errors.append(error)
        expected = f"sample 5 of {copy}/train-00003-of-00004.beton is damaged"
        assert all(error.message.startswith(expected) for error in errors)
        assert all(error.index == 5 for error in errors)
        assert len(errors) == 1 or fold


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("missing", "train-00003-of-00004.beton does not exist"),
        ("exchanged", r"train-00001-of-00004\.beton has 12 samples, dataset.json says 7"),
        ("no table", "train-00003-of-00004.crc32.npy beside it is not the file"),
        ("left out", "the shards of train do not add up"),
        ("twice", "the shards of train are not files of their own"),
        ("empty", "train-00003-of-00004.beton is not a beton: it is empty"),
    ],
)
def test_wrong_shards_are_refused(
    both: list[Path], tmp_path: Path, change: str, message: str
) -> None:
    copy = Path(shutil.copytree(both[1], tmp_path / "copy"))
    third = copy / "train-00003-of-00004.beton"
    content = json.loads((copy / FILE_NAME).read_text())
    shards = content["splits"]["train"]["shards"]
    if change == "missing":
        third.unlink()
    elif change == "exchanged":
        os.rename(third, tmp_path / "kept")
        os.rename(copy / "train-00001-of-00004.beton", third)
        os.rename(tmp_path / "kept", copy / "train-00001-of-00004.beton")
    elif change == "no table":
        third.with_suffix(".crc32.npy").unlink()
    elif change == "left out":
        del shards[2]
    elif change == "twice":
        shards[1] = shards[2]
    else:
        third.write_bytes(b"")
    (copy / FILE_NAME).write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=message):
        open_split(copy, read_manifest(copy), "train")


@pytest.mark.parametrize("most_open", [16, 2])
def test_a_truncated_shard_is_noticed_before_its_samples_are_read(
    both: list[Path], tmp_path: Path, most_open: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of files that are not open any more, the length is looked up by name."""
    monkeypatch.setattr("slipform.pipelines.mapped_files._MOST_OPEN", most_open)
    copy = Path(shutil.copytree(both[1], tmp_path / "copy"))
    beton = open_split(copy, read_manifest(copy), "train")
    os.truncate(copy / "train-00003-of-00004.beton", 4000)
    beton.check_length(beton.file_numbers(np.array([0, 6, 19, 44])))  # of other shards
    for files in (beton.file_numbers(np.array([0, 7])), beton.file_numbers(np.array([18])), None):
        with pytest.raises(DatasetError, match=r"train-00003-of-00004\.beton was truncated while"):
            beton.check_length(files)
    backwards = beton.subset(np.arange(20)[::-1])
    with pytest.raises(DatasetError, match="truncated while it was open"):
        backwards.check_length(backwards.file_numbers(np.array([12])))
    backwards.check_length(backwards.file_numbers(np.array([0, 19])))


def test_a_subset_of_a_subset_names_the_file_and_the_place_in_it(both: list[Path]) -> None:
    beton = open_dataset(both[1]).beton("train")
    once = beton.subset(np.array([9, 30, 44, 2]))
    twice = once.subset(np.array([2, 0]))
    assert [twice.place(k) for k in range(2)] == [beton.place(44), beton.place(9)]
    np.testing.assert_array_equal(twice.read_crc32(), beton.read_crc32()[[44, 9]])
    assert [len(file.labels) for file in twice.files()] == [len(f.labels) for f in beton.files()]


_READ_A_TRUNCATED_SHARD = """
import os, sys
from pathlib import Path
from slipform.pipelines.dataset import open_split
from slipform.pipelines.manifest import read_manifest
folder = Path(sys.argv[1])
beton = open_split(folder, read_manifest(folder), "train")
os.truncate(folder / "train-00003-of-00004.beton", 0)
print(sum(beton.bytes_of(index)[0] for index in range(len(beton))))
"""


def test_a_read_of_a_truncated_shard_ends_with_a_message(both: list[Path], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(both[1], tmp_path / "copy"))
    ended = subprocess.run(
        [sys.executable, "-P", "-c", _READ_A_TRUNCATED_SHARD, str(copy)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 1, ended
    assert "train-00003-of-00004.beton was truncated while it was read: 0 of" in ended.stderr


@pytest.mark.parametrize("count", [128, pytest.param(1024, marks=pytest.mark.slow)])
def test_many_shards_keep_few_files_open_and_one_mapping_each(tmp_path: Path, count: int) -> None:
    """The mappings are freed with the last array that uses them."""
    images = [folders.noise(2, 3, number) for number in range(count + 6)]
    folders.write_folder(tmp_path / "whole", images)
    folder = write_shards(tmp_path / "whole", tmp_path / "shards", list(range(1, count)))

    def mappings() -> int:
        return Path("/proc/self/maps").read_text().count(f"{tmp_path}")

    with Loader(folder, batch_size=64, executor="host", threads=1) as loader:
        assert mappings() == count
        found = torch.cat([batch.indices for batch in loader])
        assert len(found.unique()) == len(found) == count
        assert mappings() == count
        assert 0 < len(open_files(folder)) <= 16
        beton = loader.samples.beton
        for index, image in enumerate(images):
            np.testing.assert_array_equal(beton.raw(index), image)
    del loader, beton
    one = open_split(folder, read_manifest(folder), "train").raw(count + 5)
    assert mappings() >= count
    np.testing.assert_array_equal(one, images[-1])
    del one
    import gc

    gc.collect()
    assert mappings() == 0
    assert open_files(folder) == []


def test_a_file_is_truncated_after_another_one_took_its_name(
    both: list[Path], tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(both[1], copy)
    beton = open_split(copy, read_manifest(copy), "train")
    path = copy / "train-00003-of-00004.beton"
    path.rename(copy / "before")
    beton.check_length()
    os.truncate(copy / "before", 4000)
    with pytest.raises(DatasetError, match=r"train-00003-of-00004\.beton was truncated while"):
        beton.check_length()


def test_a_file_that_is_not_open_and_was_replaced_counts_as_whole(
    both: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes stay mapped, whatever has its name now."""
    monkeypatch.setattr("slipform.pipelines.mapped_files._MOST_OPEN", 0)
    copy = Path(shutil.copytree(both[1], tmp_path / "copy"))
    beton = open_split(copy, read_manifest(copy), "train")
    path = copy / "train-00003-of-00004.beton"
    path.rename(copy / "before")
    beton.check_length()
    path.write_bytes(b"shorter")
    beton.check_length()
