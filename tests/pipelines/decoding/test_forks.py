"""All pipelines of DALI are kept alive in a fork, also those that other threads make meanwhile."""

from __future__ import annotations

from slipform.pipelines.decoding import dali
from tests.pipelines.meanwhile import between_lines


class Pipeline:
    """Like one of DALI. It can be freed."""


def test_a_pipeline_may_be_made_during_a_fork(no_collections: None) -> None:
    count, made = len(dali._pipelines), [dali.survives_fork(Pipeline()) for _ in range(3)]

    def make() -> None:
        if len(made) < 1000:
            made.append(dali.survives_fork(Pipeline()))

    try:
        with between_lines(make):
            dali._hold()
        assert set(made[:3]) <= set(dali._held)
    finally:
        dali._held.clear()
    assert len(made) > 3
    assert len(dali._pipelines) == count + len(made)
    made.clear()
    assert len(dali._pipelines) == count, "they are not kept any longer"
