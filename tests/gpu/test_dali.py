"""The `dali` executor without a GPU. Its GPU graphs can be defined. The calling thread does little.
The work of the executor's thread does not grow with the batch, except for the list of images. Only
broken images are decoded again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slipform.pipelines.beton import Beton
from slipform.pipelines.decoding import device_decoder
from slipform.pipelines.decoding.dali import dali as import_dali
from slipform.pipelines.decoding.device_decoder import DeviceDecoder, decoder_options
from slipform.pipelines.decoding.share import in_share
from slipform.pipelines.executors import dali, dali_border
from slipform.pipelines.executors.dali_feed import DaliFeed
from slipform.pipelines.executors.dali_graph import build_graph, by_share
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.plan import draw
from slipform.pipelines.rendering.request import BatchRequest, Settings
from slipform.pipelines.upload import upload_together
from tests.pipelines import folders

SPECS: dict[str, dict[str, Any]] = {
    "box": {"crop": "random_resized", "flip": "both", "erase": 0.5},
    "padded": {"crop": "random", "resize": 16, "padding": 4, "border": "reflect"},
    "zero": {"crop": "random", "resize": 16, "padding": 4},
    "warp": {"rotation": 30.0, "zoom": [0.5, 1.5]},
    "warp_edge": {"rotation": 30.0, "border": "edge"},
}
SLOW = [pytest.param(x, marks=pytest.mark.slow) for x in ("zero", "warp_edge")]


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


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", ["box", "warp", "warp_edge"])
def test_the_graphs_for_a_gpu_can_be_defined(
    beton: Beton, name: str, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DALI checks the names, types and devices of all arguments when operators are defined."""
    from nvidia.dali.pipeline import Pipeline

    # The part of `build` before the search for a GPU.
    monkeypatch.setattr(Pipeline, "build", Pipeline.start_py_workers)
    jpeg = bool((beton.modes == 0).all())
    graph = build_graph(_settings(name, 4, "cuda:0"), beton, jpeg, share if jpeg else None)
    devices = {output.device for operator in graph._ops for output in operator.outputs}
    assert devices == {"cpu", "gpu"}
    assert [output.device for output in graph._graph_outputs] == ["gpu"]
    decoders = [one for one in graph._ops if one.name.startswith("__Image")]
    assert len(decoders) == (0 if not jpeg else 2 if share == 0.5 else 1)


def test_the_decoder_of_stream_can_be_defined_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    from nvidia.dali.pipeline import Pipeline

    monkeypatch.setattr(Pipeline, "build", Pipeline.start_py_workers)
    graph = DeviceDecoder(torch.device("cuda", 0), 4, 1, 61, 30)._build()
    assert [output.device for output in graph._graph_outputs] == ["gpu"]


def test_the_options_of_the_decoder() -> None:
    options = decoder_options(4, 61, 30)
    assert options["hw_decoder_load"] == 1.0
    assert options["jpeg_fancy_upsampling"] is True
    assert options["affine"] is False
    assert (options["preallocate_height_hint"], options["preallocate_width_hint"]) == (61, 30)
    # Hints for huge batches would take memory that the net needs.
    assert "preallocate_width_hint" not in decoder_options(1 << 20, 61, 30)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_number_of_a_sample_selects_the_decoder(share: float) -> None:
    """Each of the two decoders gets its samples, and the images are returned in order. Here one of
    them decodes gray. One decoder may get no sample."""
    fn, pipeline_def, types = import_dali()
    jpegs = [
        np.frombuffer(folders.jpeg(np.full((8, 8 + k, 3), (200, 100, k), np.uint8)), np.uint8)
        for k in range(12)
    ]

    def decode(nodes: Any, load: float) -> Any:
        kind = types.RGB if load else types.GRAY
        return fn.decoders.image(nodes, device="cpu", output_type=kind)

    @pipeline_def(batch_size=12, num_threads=1, device_id=None, exec_dynamic=True)
    def graph() -> Any:
        images = fn.external_source(name="images", dtype=types.UINT8, ndim=1)
        return by_share(images, share, decode)

    pipeline = graph(prefetch_queue_depth=1)
    pipeline.build()
    for samples in (np.arange(12), np.arange(12)[::-1].copy(), np.full(12, 5)):
        chosen = in_share(samples, share)
        pipeline.feed_input("images", [jpegs[k] for k in samples])
        if 0 < share < 1:
            pipeline.feed_input("hardware", chosen)
        (found,) = pipeline.run()
        shapes = [found.at(k).shape for k in range(12)]
        assert shapes == [(8, 8 + s, 3 if c else 1) for s, c in zip(samples, chosen, strict=True)]


class Watched:
    """A pipeline that records its inputs."""

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline
        self.fed: list[tuple[str, type, int]] = []

    def feed_input(self, name: str, values: Any) -> None:
        self.fed.append((name, type(values), len(values)))
        self._pipeline.feed_input(name, values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipeline, name)


def test_the_feed_selects_the_decoder_by_the_sample(beton: Beton) -> None:
    """Not by its position in the batch."""
    fed: dict[str, Any] = {}

    class Graph:
        def feed_input(self, name: str, values: Any) -> None:
            fed[name] = values

        def schedule_run(self) -> None:
            pass

    settings = _settings("box", 8)
    feed = DaliFeed(beton, settings)
    feed.graph, feed.decoder_share = Graph(), 0.5
    indices = np.array([5, 3, 3, 0, 7, 1, 2, 6])
    heights, widths = beton.heights[indices], beton.widths[indices]
    request = BatchRequest(indices, lambda at: draw(settings.spec, at, heights, widths, 5, 1))
    feed.feed(request)
    np.testing.assert_array_equal(fed["hardware"], in_share(indices, 0.5))
    assert fed["hardware"].tolist() != in_share(np.arange(8), 0.5).tolist()
    feed.close()


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


@pytest.mark.parametrize("name", ["box", "padded", "warp", *SLOW])
def test_few_calls_and_whole_arrays(beton: Beton, name: str, no_collections: None) -> None:
    used = []
    for count in (8, 64):
        settings = _settings(name, count)
        feed = DaliFeed(beton, settings)
        feed.graph = watched = Watched(feed.graph)
        request = _request(settings, beton, count)
        feed.feed(request)
        compiled = feed.take(None)
        assert compiled
        dali.DaliExecutor._corrected(*compiled[:2])
        watched.fed.clear()
        fed = _calls(lambda f=feed, r=request: f.feed(r))
        found = feed.take(None)
        assert found
        corrected = _calls(lambda f=found: dali.DaliExecutor._corrected(*f[:2]))
        assert [name for name, kind, _ in watched.fed if kind is list] == ["images"]
        assert {length for *_, length in watched.fed} == {count}
        used.append((fed, corrected))
        feed.close()
    (few, few_back), (many, many_back) = used
    assert (many - few) / 56 <= 25  # calls of DALI for each image of the list
    assert abs(many_back - few_back) <= 20
    assert many_back <= 400


def test_the_calling_thread_does_little(beton: Beton) -> None:
    """It neither reads the images nor draws the Plan, and the graph always has work."""
    used = []
    for count in (8, 64):
        settings = _settings("box", count)
        executor = dali.DaliExecutor(beton, settings)
        assert executor.depth == settings.depth  # on a GPU one more
        request = _request(settings, beton, count)
        for _ in range(executor.depth):
            executor.submit(request)
        executor.collect()
        used.append(_calls(lambda e=executor, r=request: e.submit(r)))
        used.append(_calls(executor.collect))
        executor.close()
    assert used[:2] == used[2:]
    assert max(used) <= 60


def test_nothing_is_corrected_if_no_pixel_is_outside(
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


def test_a_black_border_sends_two_rows_of_flags(
    beton: Beton, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It also sends a color for each image, not a flag for each pixel."""
    sent: list[int] = []

    def watched(arrays: Any, device: Any) -> Any:
        sent.append(sum(array.nbytes for array in arrays))
        return upload_together(arrays, device)

    monkeypatch.setattr(dali_border, "upload_together", watched)
    plan = _request(_settings("zero", 8), beton, 8).plan()
    images = torch.ones(8, 16, 16, 3)
    found = dali_border.fill_outside(images, plan)
    assert (found != images).any()
    assert sent == [8 * (16 + 16 + 3 * 4)]


def test_only_decoding_errors_lead_to_a_search_for_bad_samples(beton: Beton) -> None:
    executor = dali.DaliExecutor(beton, _settings("box", 4))
    executor.submit(_request(executor._settings, beton, 4))
    executor._thread.settle()

    class Full:
        def outputs(self, stream: Any = None) -> None:
            raise RuntimeError(
                "CUDA runtime API error cudaErrorMemoryAllocation (2): out of memory"
            )

    executor._feed.graph = Full()
    with pytest.raises(RuntimeError, match="out of memory"):
        executor.collect()
    executor.close()


def test_stream_does_not_search_for_bad_images_if_memory_is_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(device_decoder, "undecodable", fail)
    decoder = DeviceDecoder(torch.device("cpu"), 1, 1, 8, 8)
    jpeg = np.frombuffer(folders.jpeg(folders.smooth(8, 8)), np.uint8)
    side = np.array([8], np.int32)
    for text, error in (
        ("Error in `nvidia.dali.fn.decoders.image`: cudaErrorMemoryAllocation", RuntimeError),
        ("CUDA error: out of memory", RuntimeError),
        ("Error in `nvidia.dali.fn.decoders.image`: bad image", AssertionError),
    ):

        def run(*_: Any, text: str = text) -> None:
            decoder._own.pipeline = None
            raise RuntimeError(text)

        monkeypatch.setattr(decoder, "_run", run)
        with pytest.raises(error):
            decoder.decode([jpeg], side, side, [], None)
