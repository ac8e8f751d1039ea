"""The server of the tests: what one test has asked for does not count in the next one."""

from __future__ import annotations

import http.client
import threading
import time
from functools import partial

from slipform.pipelines.workers import Gate, Workers
from tests.object_server import Fault, Proxy, end_requests


def test_a_request_under_way_is_not_noted_after_a_reset(object_store: Proxy) -> None:
    stall = Fault("stall")
    object_store.faults = [stall]
    connection = http.client.HTTPConnection("127.0.0.1", object_store.port)
    connection.request("GET", "/")
    while not object_store.times(stall):
        time.sleep(0.01)
    before = object_store.requests
    object_store.reset()
    connection.close()
    while not before:
        time.sleep(0.01)
    assert not object_store.requests


def test_faults_are_drawn_without_what_differs_from_run_to_run(object_store: Proxy) -> None:
    """The number of the folder is that of the tests that were run before."""
    object_store.chance = {"500": 0.5}

    def faults(folder: int, trial: str, upload: str) -> list[str]:
        path = f"PUT /tests/folder-{folder}/prep-trial-{trial}.txt?partNumber="
        return [object_store._fault(f"{path}{n}&uploadId={upload}")[0] for n in range(40)]

    found = faults(1, "0123456789abcdef", "a-1")
    assert set(found) == {"", "500"}
    assert faults(27, "fedcba9876543210", "b_2") == found


def test_requests_that_nobody_waits_for_have_ended() -> None:
    """Of threads that were closed, of others, and those that the main thread has abandoned."""
    gate, done = Gate(), list[int]()

    def ask(number: int) -> None:
        gate.wait()
        done.append(number)

    def answer() -> None:
        time.sleep(0.1)
        gate.open()

    closed, left_open = Workers(2, "slipform-together"), Workers(2, "slipform-fetch")
    for number in range(8):
        (closed, left_open)[number % 2].submit(partial(ask, number))
    closed.close(wait=False)
    for call, name in ((partial(ask, 8), "slipform-request"), (answer, "answer")):
        threading.Thread(target=call, name=name, daemon=True).start()
    end_requests()
    assert sorted(done) == list(range(9))
    left_open.close()
