"""The peers: what every module has, and that all of them do the same work."""

import importlib
import pkgutil
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch

from slipform.bench import peers
from slipform.bench.images import image_files
from slipform.bench.peers import chosen_peers, endless, grid, peer_names
from slipform.bench.race.loading import JITTER
from slipform.bench.work import Work, usual_work
from slipform.pipelines.errors import ConfigError

QUICK_PEERS = ["dali_reader", "slipform_loader", "torch_dataloader"]
SLOW_PEERS = [
    pytest.param(name, marks=pytest.mark.slow)
    for name in ("ffcv_loader", "spdl_loader", "timm_loader")
]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


def work_on(folder: Path, batch_size: int = 60) -> Work:
    work = usual_work(folder, batch_size=batch_size, cores=2, device="cpu", dtype="float32")
    return replace(work, files=str(image_files(folder, "train"))) if work.stored == "jpeg" else work


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
                    work.check(batch)
                    images.append(batch[0].clone())
            # torchvision clamps colors to 0..1 and ours does not
            # (slipform.pipelines.plan.augmentation says so): the rest must agree.
            mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in work.mean_std)
            every = torch.cat(images).clamp(-mean / std, (1 - mean) / std)
            statistics.append(torch.stack([every.mean((0, 2, 3)), every.std((0, 2, 3))]))
        assert torch.allclose(statistics[0], statistics[1], atol=0.15), (folder, statistics)


def test_an_epoch_without_a_batch_is_an_error() -> None:
    with pytest.raises(ConfigError, match="batch-size"):
        next(endless(list))


def test_grid_gives_all_combinations() -> None:
    assert grid(a=[1, 2], b=["x"]) == [{"a": 1, "b": "x"}, {"a": 2, "b": "x"}]
