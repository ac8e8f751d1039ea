"""The peers: the protocol of every module, and the selection by name."""

import importlib
import pkgutil

import pytest

from slipform.bench import peers
from slipform.bench.peers import chosen_peers, endless, grid, peer_names
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
