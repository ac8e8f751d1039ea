"""The time of an epoch, computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from slipform.bench.scale.queue import Link, epoch_times
from slipform.bench.scale.reads import Requests
from slipform.pipelines.errors import ConfigError


def requests(sizes: list[int], first: list[int], last: list[int] | None = None) -> Requests:
    columns = ([0] * len(sizes), sizes, first, first if last is None else last)
    return Requests(*(np.array(column, np.int64) for column in columns))


FOUR = requests([1, 1, 1, 1], [0, 1, 2, 3])
ANY = 1e9  # room


def test_two_at_once() -> None:
    """Sent at 0, 0, 2, 3; complete at 2, 3, 4, 5; a step takes half a second."""
    found = epoch_times(FOUR, 4, 0.5, Link(1.0, 1.0, 2, 0.0), ANY)
    assert found == pytest.approx((2.0, 1.5, 5.5))


def test_bytes_have_room_when_a_batch_has_ended() -> None:
    """The third request waits for the end of the first batch, at 2.5."""
    found = epoch_times(FOUR, 4, 0.5, Link(1.0, 1.0, 2, 0.0), 2)
    assert found == pytest.approx((2.0, 0.5 + 1.0 + 0.5, 6.0))


def test_room_stays_taken_until_the_last_batch_that_needs_it() -> None:
    """One request for batches 0 and 1. The second one has room at 2 + 2 steps."""
    found = epoch_times(requests([1, 1], [0, 2], [1, 2]), 3, 0.5, Link(1.0, 1.0, 9, 0.0), 1)
    assert found == pytest.approx((2.0, 2.0, 2.0 + 1.0 + 2.0 + 0.5))


def test_requests_have_a_distance() -> None:
    """Sent at 0, 3, 6, 9."""
    found = epoch_times(FOUR, 4, 0.5, Link(1.0, 1.0, 2, 3.0), ANY)
    assert found == pytest.approx((2.0, 3 * 2.5, 11.5))


def test_a_slow_step_never_waits() -> None:
    found = epoch_times(FOUR, 4, 5.0, Link(1.0, 1.0, 2, 0.0), ANY)
    assert found == pytest.approx((2.0, 0.0, 22.0))


def test_a_batch_that_is_there_already() -> None:
    """Batch 1 needs what batch 0 has fetched, and there is a batch without requests at the end."""
    found = epoch_times(requests([4, 2], [0, 1], [1, 1]), 3, 1.0, Link(0.0, 1.0, 1, 0.0), ANY)
    assert found == pytest.approx((4.0, 1.0, 4.0 + 1.0 + 1.0 + 2.0))


@pytest.mark.parametrize(
    ("link", "seconds"),
    [
        (Link(0.1, 1e9, 4, 0.0), 1000 / 4 * 0.1),  # waiting for answers
        (Link(0.0, 100.0, 4, 0.0), 1000 * 10 / 100),  # the link is full
        (Link(0.1, 1e9, 100, 0.02), 1000 * 0.02),  # the store is full
    ],
)
def test_limits(link: Link, seconds: float) -> None:
    """The whole epoch takes as long as the scarcest part, and little more."""
    many = requests([10] * 1000, list(range(1000)))
    assert seconds <= epoch_times(many, 1000, 1e-9, link, ANY).whole + 0.021
    assert epoch_times(many, 1000, 1e-9, link, ANY).whole <= seconds + 0.2


def test_too_little_room_is_explained() -> None:
    with pytest.raises(ConfigError, match="batch 0 needs more: give a larger --ahead-bytes"):
        epoch_times(requests([3, 3], [0, 0]), 1, 1.0, Link(0.0, 1.0, 1, 0.0), 5)
    with pytest.raises(ConfigError, match="batch 0 needs more"):
        epoch_times(requests([9], [0]), 1, 1.0, Link(0.0, 1.0, 1, 0.0), 5)
