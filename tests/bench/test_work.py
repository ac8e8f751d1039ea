"""The work of every contestant: images as files, the races, and outputs that are refused."""

from pathlib import Path

import pytest
import torch

from slipform.bench.images import image_files
from slipform.bench.work import is_small, stored_as, usual_work
from slipform.pipelines.beton import Beton
from slipform.pipelines.errors import DatasetError
from tests.pipelines.sharded import write_shards


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


def test_peers_that_read_files_get_the_stored_bytes(shapes: Path) -> None:
    files = sorted(image_files(shapes, "train").glob("*/*.jpg"), key=lambda path: path.name)
    beton = Beton(shapes / "train.beton")
    assert len(files) == len(beton) == 240
    for index, file in enumerate(files):
        assert file.read_bytes() == beton.bytes_of(index).tobytes()
        assert int(file.parent.name) == beton.labels[index]
    before = files[0].stat().st_mtime_ns
    image_files(shapes, "train")
    assert files[0].stat().st_mtime_ns == before  # made once


def test_the_races_follow_from_how_the_images_are_stored(shapes: Path, shapes_raw: Path) -> None:
    assert (stored_as(shapes), is_small(shapes)) == ("jpeg", False)
    assert (stored_as(shapes_raw), is_small(shapes_raw)) == ("raw", True)
    small = usual_work(shapes_raw, batch_size=0, cores=1, device="cpu", dtype="float32")
    assert (
        small.batch_size,
        small.augment.image_size,
        small.augment.crop,
        small.augment.padding,
    ) == (512, 32, "random", 4)


def test_wrong_output_is_refused(shapes: Path) -> None:
    work = usual_work(shapes, batch_size=2, cores=2, device="cpu", dtype="float32")
    labels = torch.zeros(2, dtype=torch.int64)
    work.check((torch.randn(2, 3, 224, 224), labels))
    for images, says in [
        (torch.randn(2, 3, 224, 223), "instead of"),
        (torch.randn(2, 3, 224, 224).double(), "float64"),
        (255 * torch.rand(2, 3, 224, 224), "images are not normalized"),
        (torch.zeros(2, 3, 224, 224), "images are not normalized"),
    ]:
        with pytest.raises(ValueError, match=says):
            work.check((images, labels))


def test_a_peer_that_reads_one_file_refuses_shards(shapes: Path, tmp_path: Path) -> None:
    folder = write_shards(shapes, tmp_path / "shards", [9])
    work = usual_work(folder, batch_size=4, cores=1, device="cpu", dtype="float32")
    assert len(work.open()) == 240
    with pytest.raises(DatasetError, match="2 shards of train, and this peer reads one beton"):
        work.beton  # noqa: B018
