"""Ctrl-C and a request to stop end every wait for a server that does not answer."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slipform.pipelines.dataset import open_dataset
from slipform.pipelines.errors import Interrupted, SlipformError
from slipform.pipelines.loader import Loader
from slipform.pipelines.manifest import read_manifest
from slipform.pipelines.remote import client, store
from slipform.pipelines.stopping import stops_when
from slipform.preprocess.object_folder import ObjectFolder
from tests.object_server import Proxy
from tests.pipelines.epochs import open_loader


class Silent:
    """A client of obstore whose requests from a moment on get no answer, until the end of a test.

    Args:
        client: The client.
        server: The moment and the end.
    """

    def __init__(self, client: Any, server: Server) -> None:
        self._client, self._server = client, server

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def call(name: str = "", *args: Any, **options: Any) -> Any:
            if self._server.is_silent(method, name):
                self._server.asked.set()
                self._server.ended.wait()
            return getattr(self._client, method)(*([name] if name else []), *args, **options)

        return call


class Server:
    """Says which requests get no answer: those whose method or name is `silent`."""

    def __init__(self) -> None:
        self.silent, self.asked, self.ended = "none", threading.Event(), threading.Event()

    def is_silent(self, method: str, name: str) -> bool:
        return self.silent in (method, name)


@pytest.fixture
def server(object_store: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """It answers before `object_store` waits for requests."""
    server, usual = Server(), client.client_of
    monkeypatch.setattr(
        store, "client_of", lambda *given, **how: Silent(usual(*given, **how), server)
    )
    yield server
    server.ended.set()


def _read_samples(url: str, server: Server) -> None:
    beton = open_dataset(url).beton("train")
    server.silent = "train.beton"
    beton.bytes_of(3)


def _read_parts(url: str, server: Server) -> None:
    beton = open_dataset(url).beton("train")
    server.silent = "train.beton"
    list(beton.parts())


def _read_batches(url: str, server: Server) -> None:
    with open_loader(url, "host") as loader:
        server.silent = "train.beton"
        list(loader)


def _upload(url: str, server: Server) -> None:
    with ObjectFolder(f"{url}/new").replacing() as folder:
        (folder / "dataset.json").write_text("{}")
        server.silent = "put"


def _tables(url: str, server: Server) -> None:
    manifest = read_manifest(url)
    server.silent = "get_range"
    with ObjectFolder(url).tables(manifest):
        pass


def _open(silent: str) -> Callable[[str, Server], None]:
    def act(url: str, server: Server) -> None:
        server.silent = silent
        Loader(url, "train", batch_size=5)

    return act


WAITS = {
    "dataset.json": _open("dataset.json"),
    "a table": _open("train.crc32.npy"),
    "an index": _open("train.beton"),
    "a sample": _read_samples,
    "parts": _read_parts,
    "batches": _read_batches,
    "an upload": _upload,
    "tables of a dataset": _tables,
}


@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_wait(wait: str, number: int, url: str, server: Server) -> None:
    """SIGINT has its usual effect here, and SIGTERM sets a request. The server would be silent for
    the rest of the test."""
    asked = threading.Event()
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: asked.set())

    def disturb() -> None:
        server.asked.wait()
        os.kill(os.getpid(), number)

    threading.Thread(target=disturb, daemon=True).start()
    expected = KeyboardInterrupt if number == signal.SIGINT else Interrupted
    try:
        with stops_when(asked.is_set), pytest.raises(expected):
            WAITS[wait](url, server)
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def test_two_batches_are_awaited(url: str, server: Server) -> None:
    """More than the executor has under way. The position does not move, and the wait can be
    repeated."""
    with open_loader(url, "host", batch_size=5, prefetch=1) as loader:
        assert loader.sequence.is_remote
        server.silent = "train.beton"
        with stops_when(server.asked.is_set):
            assert not loader.sequence.await_samples(2)
        server.silent = "none"
        server.ended.set()
        assert loader.sequence.await_samples(4)
        assert (loader.epoch, loader.seen) == (0, 0)
        assert len(list(loader)) == 24


def test_closing_ends_the_wait_of_another_thread(url: str, server: Server) -> None:
    loader, found = open_loader(url, "host"), list[Exception]()

    def read() -> None:
        try:
            list(loader)
        except Exception as error:
            found.append(error)

    server.silent = "train.beton"
    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    server.asked.wait()
    loader.close()
    thread.join()
    assert [type(error) for error in found] == [SlipformError]
    assert "this Loader is closed" in str(found[0])


def test_nothing_is_awaited_for_local_files(photos: Path) -> None:
    with open_loader(photos, "host") as loader, stops_when(lambda: True):
        assert not loader.sequence.is_remote
        assert loader.sequence.await_samples(3)
        assert len(list(loader))
