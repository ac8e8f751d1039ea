"""The `dali` executor without a GPU: its GPU graphs can be made, its work on the calling thread
does not grow with the batch but for the list of images, and only broken images are decoded again.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slipform.pipelines.beton import Beton
from slipform.pipelines.executors import dali, dali_border
from slipform.pipelines.executors.dali_graph import _decoder_options, build_graph
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.plan import draw
from slipform.pipelines.rendering.request import BatchRequest, Settings
from tests.pipelines import folders

SPECS: dict[str, dict[str, Any]] = {
    "box": {"crop": "random_resized", "flip": "both", "erase": 0.5},
    "padded": {"crop": "random", "resize": 16, "padding": 4, "border": "reflect"},
    "zero": {"crop": "random", "resize": 16, "padding": 4},
    "warp": {"rotation": 30.0, "zoom": [0.5, 1.5]},
    "warp_edge": {"rotation": 30.0, "border": "edge"},
}


@pytest.fixture(scope="module", params=["jpeg", "raw"])
def beton(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Beton:
    pixels = [folders.smooth(40 + 3 * k, 30, k) for k in range(8)]
    images = [folders.jpeg(one) for one in pixels] if request.param == "jpeg" else pixels
    folder = folders.write_folder(tmp_path_factory.mktemp("dali") / request.param, images)
    return Beton(Path(folder) / "train.beton")


def _settings(name: str, batch: int, device: str = "cpu") -> Settings:
    spec = Augmentation(image_size=16, normalize="half", **SPECS[name]).resolved([], [])
    return Settings(spec, batch, torch.float32, torch.device(device), threads=1, depth=1)


def _request(settings: Settings, beton: Beton, count: int) -> BatchRequest:
    indices = np.arange(count) % len(beton)
    heights, widths = beton.heights[indices], beton.widths[indices]
    return BatchRequest(indices, lambda at: draw(settings.spec, at, heights, widths, 5, 1))


@pytest.mark.parametrize("name", ["box", "warp", "warp_edge"])
def test_the_graphs_for_a_gpu_can_be_made(
    beton: Beton, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DALI checks the names, kinds and places of all arguments when operators are made."""
    from nvidia.dali.pipeline import Pipeline

    # All that `build` does before it looks for a GPU.
    monkeypatch.setattr(Pipeline, "build", Pipeline.start_py_workers)
    jpeg = bool((beton.modes == 0).all())
    graph = build_graph(_settings(name, 4, "cuda:0"), beton, jpeg)
    devices = {output.device for operator in graph._ops for output in operator.outputs}
    assert devices == {"cpu", "gpu"}
    assert [output.device for output in graph._graph_outputs] == ["gpu"]


def test_who_decodes_a_jpeg_does_not_depend_on_its_position(beton: Beton) -> None:
    options = _decoder_options(_settings("box", 4, "cuda:0"), beton)
    assert options["hw_decoder_load"] == 1.0
    assert options["jpeg_fancy_upsampling"] is True
    assert (options["preallocate_height_hint"], options["preallocate_width_hint"]) == (61, 30)
    # Hints for huge batches would take memory that the net needs.
    many = _decoder_options(_settings("box", 1 << 20, "cuda:0"), beton)
    assert "preallocate_width_hint" not in many


class Watched:
    """A pipeline that notes what it is fed."""

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline
        self.fed: list[tuple[str, type, int]] = []

    def feed_input(self, name: str, values: Any) -> None:
        self.fed.append((name, type(values), len(values)))
        self._pipeline.feed_input(name, values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipeline, name)


def _calls(work: Any) -> int:
    calls = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize("name", list(SPECS))
def test_few_calls_and_whole_arrays(beton: Beton, name: str) -> None:
    used = []
    for count in (8, 64):
        settings = _settings(name, count)
        executor = dali.DaliExecutor(beton, settings)
        executor._graph = watched = Watched(executor._graph)
        request = _request(settings, beton, count)
        executor.submit(request)
        executor.collect()
        watched.fed.clear()
        submitted = _calls(lambda e=executor, r=request: e.submit(r))
        collected = _calls(executor.collect)
        assert [name for name, kind, _ in watched.fed if kind is list] == ["images"]
        assert {length for *_, length in watched.fed} == {count}
        used.append((submitted, collected))
        executor.close()
    (few, few_back), (many, many_back) = used
    assert (many - few) / 56 <= 25  # DALI's own, for each image of the list
    assert abs(many_back - few_back) <= 20
    assert many_back <= 400


def test_nothing_is_computed_where_nothing_lies_outside(
    beton: Beton, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = _settings("box", 8)
    plan = _request(settings, beton, 8).plan()
    assert not dali_border._some_outside(plan, 0)

    def fail(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(dali_border, "_sources", fail)
    images = torch.zeros(8, 16, 16, 3)
    assert dali_border.fill_outside(images, plan) is images
    outside = _request(_settings("zero", 8), beton, 8).plan()
    with pytest.raises(AssertionError):
        dali_border.fill_outside(images, outside)


def test_only_decoding_errors_are_looked_into(beton: Beton) -> None:
    executor = dali.DaliExecutor(beton, _settings("box", 4))
    executor.submit(_request(executor._settings, beton, 4))

    class Full:
        def outputs(self, stream: Any = None) -> None:
            raise RuntimeError(
                "CUDA runtime API error cudaErrorMemoryAllocation (2): out of memory"
            )

    executor._graph = Full()
    with pytest.raises(RuntimeError, match="out of memory"):
        executor.collect()
    executor.close()
