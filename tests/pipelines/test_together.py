"""Calls in several threads: results, errors, and what happens to calls that are not needed."""

from __future__ import annotations

import threading

import pytest

from slipform.pipelines.errors import Interrupted
from slipform.pipelines.stopping import stops_when
from slipform.pipelines.together import together


def test_results_have_the_order_of_the_items() -> None:
    assert together(lambda k: k * k, range(50), 4, "here") == [k * k for k in range(50)]
    assert together(str, [], 4, "here") == []


def test_an_error_ends_the_waiting_and_the_other_calls_are_dropped() -> None:
    """The call under way would take forever, and is not waited for."""
    blocked, go, dropped = threading.Event(), threading.Event(), list[int]()
    last = threading.Event()

    def call(number: int) -> None:
        if number == 0:
            blocked.wait()
            raise KeyError(number)
        blocked.set()
        go.wait()

    def drop(number: int) -> None:
        dropped.append(number)
        if number == 9:
            last.set()

    with pytest.raises(KeyError):
        together(call, range(10), 2, "here", drop)
    go.set()
    last.wait()
    assert sorted(dropped)[-7:] == [3, 4, 5, 6, 7, 8, 9]
    assert 0 not in dropped
    assert 1 not in dropped


def test_a_request_to_stop_ends_the_waiting() -> None:
    go, begun = threading.Event(), threading.Event()

    def call(number: int) -> None:
        begun.set()
        go.wait()

    with stops_when(begun.is_set), pytest.raises(Interrupted, match="waiting for s3://b/data"):
        together(call, [1], 1, "s3://b/data")
    go.set()
