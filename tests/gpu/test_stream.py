"""`stream` without a GPU. Raw images and JPEGs in one file, with all borders and warps, have the
pixels of `host`, with either decoder. Only the number of a sample selects the decoder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slipform.pipelines import executors
from slipform.pipelines.beton import Beton
from slipform.pipelines.decoding.share import in_share
from slipform.pipelines.errors import ConfigError
from slipform.pipelines.executors import GPU_ONLY, NAMES, choose, stream
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.plan import draw
from slipform.pipelines.rendering.region import relative
from slipform.pipelines.rendering.request import Settings
from tests.pipelines import folders
from tests.warm import Warm

pytestmark = pytest.mark.timeout(3000)

SPECS: dict[str, dict[str, Any]] = {
    "box": {"image_size": 15, "crop": "random_resized", "flip": "both", "jitter": [0.4, 0.4]},
    "padded": {"image_size": 12, "resize": 16, "crop": "random", "padding": 5, "erase": 0.5},
    "edge": {"image_size": 14, "resize": 9, "border": "edge"},
    "turned_reflect": {"image_size": 12, "crop": "none", "rotation": 40.0, "border": "reflect"},
    "turned_corners": {"image_size": 10, "resize": 14, "rotation": 90.0, "corners": "black"},
    "bent": {"image_size": 11, "resize": 14, "perspective": 0.4, "zoom": [0.5, 1.5]},
    "own": {"image_size": 12, "resize": 15, "own": {"turn": {"degrees": 20.0}, "corner": {}}},
    "blurred": {"image_size": 12, "crop": "random_resized", "blur": [0.5]},
    "rand_augment": {
        "image_size": 15,
        "crop": "random_resized",
        "policy": {"name": "rand_augment"},
    },
    "augmix": {
        "image_size": 11,
        "resize": 14,
        "rotation": 20.0,
        "perspective": 0.4,
        "policy": {"name": "augmix", "mixture_width": 2},
    },
}
PHOTOS = {"image_size": 12, "crop": "random_resized", "flip": "horizontal"}
QUICK = ("turned_reflect",)
SHARES = (0.0, 0.5, 1.0)


@pytest.fixture(scope="module")
def results(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, interpreter: Warm
) -> Path:
    out = tmp_path_factory.mktemp("streamed")
    selected = [item for item in request.session.items if item.path == request.path]
    calls = [item.callspec for item in selected if hasattr(item, "callspec")]
    names = [call.params["spec"] for call in calls if "spec" in call.params]
    cases = {name: SPECS[name] for name in SPECS if name in names}
    if any(item.originalname == test_large_photos.__name__ for item in selected):  # type: ignore[attr-defined]
        cases["photos"] = PHOTOS
    quick = set(cases) <= set(QUICK)
    how = ([0.5], [1.0], 6) if quick else (SHARES, (0.0, 1.0), 18)
    script = Path(__file__).with_name("streamed.py")
    asked = json.dumps({"cases": cases, **dict(zip(("shares", "bad", "count"), how, strict=True))})
    done = interpreter.run_file(script, out, asked)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.parametrize(
    "spec", [pytest.param(s, marks=() if s in QUICK else pytest.mark.slow) for s in SPECS]
)
def test_stream_gives_the_pixels_of_host(results: Path, spec: str) -> None:
    found = np.load(results / f"{spec}.npz")
    host = found["host"]
    assert np.ptp(host) > 50
    for share in [share for share in SHARES if f"stream_{share}" in found]:
        # The same decoder. Decoding a region or the whole image may differ by one rounding.
        off = np.abs(found[f"stream_{share}"] - host)
        if "policy" in SPECS[spec]:  # whose operations enlarge a difference of one level
            assert (off <= (0.005 if share == 0 else 4)).mean() >= 0.99
        else:
            assert off.max() <= (0.005 if share == 0 else 4)
        assert off.mean() <= (0.2 if "policy" in SPECS[spec] and share else 0.05)
    # The pixels are the same, bit for bit, with another batch size and order.
    np.testing.assert_array_equal(found["again"], found["stream_0.5"])


@pytest.mark.slow
def test_large_photos(results: Path) -> None:
    """CPU cores decode the photos at a fraction of their size, for `host` and for `stream`, and the
    decoder of a GPU decodes whole ones. The bounds of the difference are those of a smooth photo in
    tests/pipelines/decoding/test_scaled.py, and half a level for the conversion of colors."""
    found = np.load(results / "photos.npz")
    host = found["host"]
    assert np.ptp(host) > 50
    assert np.abs(found["stream_0.0"] - host).max() <= 0.005
    off = np.abs(found["stream_1.0"] - host)
    assert 0 < off.mean() <= 0.35 + 0.5
    assert np.percentile(off, 99) <= 3.5


def test_only_bad_samples_are_black(results: Path) -> None:
    assert (results / "bad_samples_checked").exists()


def test_the_number_of_a_sample_selects_the_decoder() -> None:
    samples = np.arange(100_000)
    before = np.zeros(len(samples), bool)
    for share in (0.0, 0.1, 0.5, 0.9, 1.0):
        chosen = in_share(samples, share)
        # The false-alarm rate is below 1e-6: five standard deviations of a binomial distribution.
        assert abs(chosen.mean() - share) <= 5 * np.sqrt(share * (1 - share) / len(samples))
        assert not (before & ~chosen).any()
        before = chosen
        np.testing.assert_array_equal(chosen[777:], in_share(samples[777:], share))
    # These values must never change: resumed runs must get the same pixels.
    assert np.flatnonzero(in_share(np.arange(32), 0.25)).tolist() == [3, 10, 18, 20, 21]


def test_an_image_beside_a_reduced_one_does_not_change() -> None:
    """This includes samples without a stored pixel inside `clip`."""
    spec = Augmentation(image_size=4, normalize="half").resolved([], [])
    sides = np.array([8, 8], np.int32)
    plan = replace(
        draw(spec, np.arange(2), sides, sides, 0, 0),
        clip=np.array([[3, 3, 3, 5], [0, 2, 8, 7]], np.int32),
    )
    origin = np.array([[1, 0], [0, 2]], np.int32)
    alone = relative(plan, origin, sides, sides)
    beside = relative(plan, origin, sides, sides, np.ones(2, np.int32))
    for one, other in zip(alone, beside, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture
def beton(tmp_path: Path) -> Beton:
    pixels = [folders.smooth(20 + k, 30, k) for k in range(4)]
    images = [folders.jpeg(one) if k % 2 else one for k, one in enumerate(pixels)]
    return Beton(Path(folders.write_folder(tmp_path / "mixed", images)) / "train.beton")


def _settings(device: str, **options: Any) -> Settings:
    spec = Augmentation(image_size=8, normalize="half", **options).resolved([], [])
    return Settings(spec, 4, torch.float32, torch.device(device), threads=1)


def test_it_needs_a_gpu(beton: Beton) -> None:
    with pytest.raises(ConfigError, match='"stream" needs an NVIDIA GPU'):
        choose("stream", beton, _settings("cpu"), {})
    assert set(GPU_ONLY) < set(NAMES)


def test_auto_uses_the_measured_executor(
    beton: Beton, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For files of both kinds and warps with reflection, which `dali` does not support, too."""
    built: list[tuple[str, float | None]] = []
    for name in NAMES:
        module = __import__(f"slipform.pipelines.executors.{name}", fromlist=["build"])

        def build(beton: Beton, settings: Settings, name: str = name) -> str:
            built.append((name, settings.decoder_share))
            return name

        monkeypatch.setattr(module, "build", build)
    monkeypatch.setattr(executors, "free_memory_bytes", lambda device: 0)
    jpegs = folders.write_folder(tmp_path / "jpegs", [folders.jpeg(folders.smooth(9, 9))] * 2)
    coded = Beton(Path(jpegs) / "train.beton")
    tuned = {"executor": "stream", "decoder_share": 0.75}
    for one, device, options, found in (
        (coded, "cuda:0", {}, {}),
        (beton, "cuda:0", {}, {}),
        (coded, "cuda:0", {"rotation": 9.0, "border": "reflect"}, {}),
        (coded, "cuda:0", {}, tuned),
        (coded, "cuda:0", {}, {"executor": "dali", "decoder_share": 0.25}),
        (coded, "cpu", {}, tuned),
        (beton, "cpu", {}, {"executor": "dali"}),
    ):
        choose("auto", one, _settings(device, **options), found)
    assert built == [
        ("dali", None),
        ("stream", None),
        ("stream", None),
        ("stream", 0.75),
        ("dali", 0.25),
        ("host", None),
        ("host", None),
    ]
    assert stream.build is not None
