"""The peers: the protocol of every module, and the selection by name."""

import importlib
import pkgutil
from itertools import islice
from pathlib import Path

import pytest

from slipform.bench import peers
from slipform.bench.peers import OURS, chosen_peers, endless, grid, load_peer, peer_names
from slipform.bench.work import usual_work
from slipform.pipelines.errors import ConfigError


def test_every_peer_module_implements_the_protocol() -> None:
    for module in pkgutil.iter_modules(peers.__path__):
        peer = importlib.import_module(f"slipform.bench.peers.{module.name}")
        assert all(
            callable(getattr(peer, name)) for name in ("reason_not", "candidates", "batches")
        ), module.name
    assert "slipform_loader" not in peer_names()
    chosen = chosen_peers("ffcv,torch")
    assert {"ffcv_loader", "torch_dataloader"} <= set(chosen)
    assert all(name.startswith(("ffcv", "torch")) for name in chosen)
    with pytest.raises(ConfigError, match="torch_dataloader"):
        chosen_peers("torhc_dataloader")


def test_an_epoch_without_a_batch_is_an_error() -> None:
    with pytest.raises(ConfigError, match="batch-size"):
        next(endless(list))


def test_grid_gives_all_combinations() -> None:
    assert grid(a=[1, 2], b=["x"]) == [{"a": 1, "b": "x"}, {"a": 2, "b": "x"}]


def test_own_memory_is_a_setting_of_slipforms_loader(shapes_raw: Path) -> None:
    """Without it, batches are made in as many buffers as wait ahead, and the consumer's."""
    work = usual_work(shapes_raw, batch_size=60, cores=2, device="cpu", dtype="float32")
    peer = load_peer(OURS)
    settings = peer.candidates(work)[0] | {"executor": "resident"}
    memory = []
    for given in (settings, settings | {"reuse_buffers": False}):
        with peer.batches(work, given) as batches:
            kept = [images for images, _ in islice(batches, 12)]
        memory.append(len({images.data_ptr() for images in kept}))
    assert memory[0] < memory[1] == 12
