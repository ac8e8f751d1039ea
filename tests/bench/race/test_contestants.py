"""Peers owe the same output for the same work; a contestant is a process that can be measured, and
that may die."""

import importlib
import os
import pkgutil
import signal
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch

from slipform.bench import peers
from slipform.bench.race.contestant import Contestant, Opening, check_batch, ranked, timed
from slipform.bench.race.images import image_files
from slipform.bench.race.measure import QUICK
from slipform.bench.race.work import Work, endless, grid, is_small, stored_as, usual_work
from slipform.bench.suites.loaders import JITTER, chosen_peers, peer_names
from slipform.pipelines.beton import Beton
from slipform.pipelines.errors import ConfigError

QUICK_PEERS = ["dali_reader", "slipform_loader", "torch_dataloader"]
SLOW_PEERS = [
    pytest.param(name, marks=pytest.mark.slow)
    for name in ("ffcv_loader", "spdl_loader", "timm_loader")
]
fixed = {"executor": "host"}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


def work_on(folder: Path, batch_size: int = 60) -> Work:
    work = usual_work(folder, batch_size=batch_size, cores=2, device="cpu", dtype="float32")
    return replace(work, files=str(image_files(folder, "train"))) if work.stored == "jpeg" else work


def test_the_file_peers_get_the_stored_bytes(shapes: Path) -> None:
    files = sorted(image_files(shapes, "train").glob("*/*.jpg"), key=lambda path: path.name)
    beton = Beton(shapes / "train.beton")
    assert len(files) == len(beton) == 240
    for index, file in enumerate(files):
        assert file.read_bytes() == beton.bytes_of(index).tobytes()
        assert int(file.parent.name) == beton.labels[index]
    before = files[0].stat().st_mtime_ns
    image_files(shapes, "train")
    assert files[0].stat().st_mtime_ns == before  # made once


def test_what_is_raced_follows_from_what_is_stored(shapes: Path, shapes_raw: Path) -> None:
    assert (stored_as(shapes), is_small(shapes)) == ("jpeg", False)
    assert (stored_as(shapes_raw), is_small(shapes_raw)) == ("raw", True)
    small = usual_work(shapes_raw, batch_size=0, cores=1, device="cpu", dtype="float32")
    assert (
        small.batch_size,
        small.augment.image_size,
        small.augment.crop,
        small.augment.padding,
    ) == (512, 32, "random", 4)


def test_every_peer_module_keeps_the_protocol() -> None:
    for module in pkgutil.iter_modules(peers.__path__):
        peer = importlib.import_module(f"slipform.bench.peers.{module.name}")
        assert all(
            callable(getattr(peer, name)) for name in ("reason_not", "candidates", "batches")
        ), module.name
    assert "slipform_loader" not in peer_names()
    assert chosen_peers("ffcv,torch") == ["ffcv_loader", "torch_dataloader"]
    with pytest.raises(ConfigError, match="torch_dataloader"):
        chosen_peers("torhc_dataloader")


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.filterwarnings(
    "ignore:The image decoding:DeprecationWarning"
)  # torchvision's advice to move to TorchCodec
@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # ffcv's compiled code, when it is collected
@pytest.mark.parametrize("jitter", [False, True])
@pytest.mark.parametrize("name", [*QUICK_PEERS, *SLOW_PEERS])
def test_every_peer_does_the_same_work(
    shapes: Path, shapes_raw: Path, name: str, jitter: bool
) -> None:
    """Same shape, type and range; and over an epoch nearly the same mean and deviation as
    torchvision's own, so the same crops, normalization and jitter."""
    peer = importlib.import_module(f"slipform.bench.peers.{name}")
    reference = importlib.import_module("slipform.bench.peers.torch_dataloader")
    for folder in (shapes, shapes_raw):
        work = work_on(folder)
        if jitter:
            work = replace(work, augment=replace(work.augment, color_jitter=JITTER))
        if reason := peer.reason_not(work):
            assert reason == "reads image files only"
            continue
        statistics = []
        for module in (peer, reference):
            settings = module.candidates(work)[0] | (
                {"executor": "host"} if module.__name__.endswith("slipform_loader") else {}
            )
            with module.batches(work, settings) as batches:
                images = []
                for batch in islice(batches, 4):  # 240 images: an epoch
                    check_batch(batch, work)
                    images.append(batch[0].clone())
            # torchvision clamps colors to 0..1 and ours does not
            # (slipform.pipelines.plan.augmentation says so): the rest must agree.
            mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in work.mean_std)
            every = torch.cat(images).clamp(-mean / std, (1 - mean) / std)
            statistics.append(torch.stack([every.mean((0, 2, 3)), every.std((0, 2, 3))]))
        assert torch.allclose(statistics[0], statistics[1], atol=0.15), (folder, statistics)


def test_an_output_that_is_not_owed_is_refused(shapes: Path) -> None:
    work = work_on(shapes, batch_size=2)
    labels = torch.zeros(2, dtype=torch.int64)
    check_batch((torch.randn(2, 3, 224, 224), labels), work)
    for images, says in [
        (torch.randn(2, 3, 224, 223), "instead of"),
        (torch.randn(2, 3, 224, 224).double(), "float64"),
        (255 * torch.rand(2, 3, 224, 224), "no normalized images"),
        (torch.zeros(2, 3, 224, 224), "no normalized images"),
    ]:
        with pytest.raises(ValueError, match=says):
            check_batch((images, labels), work)


def test_timed_counts_images_for_seconds() -> None:
    import time

    def every_ten_milliseconds() -> list[tuple[torch.Tensor, torch.Tensor]]:
        time.sleep(0.01)
        return [(torch.zeros(1), torch.zeros(5))]

    found = timed(
        endless(every_ten_milliseconds), "cpu", replace(QUICK, warmup_seconds=0.0), seconds=0.5
    )
    assert (
        100 < found["images_per_second"] <= 500
    )  # 5 images each 10 ms, less what the machine adds
    assert found["cpu_cores"] < 0.8  # it sleeps


def test_an_epoch_without_a_batch_is_an_error() -> None:
    with pytest.raises(ConfigError, match="batch-size"):
        next(endless(list))


def test_grid_gives_all_combinations() -> None:
    assert grid(a=[1, 2], b=["x"]) == [{"a": 1, "b": "x"}, {"a": 2, "b": "x"}]


def test_the_search_takes_the_usual_setting_where_another_is_no_faster() -> None:
    """5,884 images/s with four batches ahead are no reason to hold two more than for 5,833."""
    two, four, eight = ({"prefetch": n} for n in (2, 4, 8))
    assert ranked([(5833, two), (5700, eight), (5884, four)]) == [
        (5833, two),
        (5884, four),
        (5700, eight),
    ]
    assert ranked([(5833, two), (6100, four)]) == [(6100, four), (5833, two)]
    assert ranked([(5833, two)]) == [(5833, two)]


def test_a_contestant_is_measured_and_its_death_is_told(shapes_raw: Path) -> None:
    effort = replace(QUICK, search=True, search_seconds=0.05)
    with Contestant(
        "slipform_loader", work_on(shapes_raw), effort, {"executor": "resident"}
    ) as one:
        assert one.opening.status == "ok", one.opening.note
        assert one.opening.note.startswith("tried (images/s): executor=resident threads=")
        assert one.opening.note.count("executor=resident") == 2
        assert one.opening.settings["executor"] == "resident"
        assert one.opening.first_batch_seconds[0] > 0
        assert one.measure()["images_per_second"] > 0
        memory = one.memory()
        assert memory["resident_bytes"] > 50 * 2**20
        assert 0 < memory["above_imports_bytes"] < memory["resident_bytes"]
        assert one._process.pid is not None
        os.kill(one._process.pid, signal.SIGKILL)
        with pytest.raises(RuntimeError, match="status -9"):
            one.measure()


def test_what_is_not_installed_is_told(shapes_raw: Path) -> None:
    with Contestant("no_such_peer", work_on(shapes_raw), QUICK) as one:
        assert one.opening == Opening(
            status="not installed", note="No module named 'slipform.bench.peers.no_such_peer'"
        )
