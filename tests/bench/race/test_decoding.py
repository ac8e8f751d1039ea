"""All decoders make the same images, and their times are those of the process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from slipform.bench.race import decoding
from slipform.bench.result.result import read_result
from slipform.bench.suites import decoders
from slipform.pipelines.beton import Beton
from slipform.pipelines.decoding.decoder import MOST_AT_ONCE


def test_all_decoders_make_the_same_images(shapes: Path) -> None:
    beton = Beton(shapes / "train.beton")
    streams, sizes = decoding.batch(beton, np.arange(MOST_AT_ONCE))
    found = {name: decode(streams, sizes) for name, decode in decoding.decoders().items()}
    assert {decoding.OURS, "DALI pipeline", "OpenCV", "Pillow"} <= set(found)
    for name, images in found.items():
        assert len(images) == len(streams), name
        for image, expected in zip(images, found["Pillow"], strict=True):
            pixels = np.asarray(image)
            pixels = pixels if pixels.shape[-1] == 3 else pixels.transpose(1, 2, 0)
            assert pixels.shape == expected.shape
            # Their inverse transforms and upsampling of colors round in other ways.
            assert np.abs(pixels.astype(int) - expected).mean() < 2, name


def test_the_times_are_those_of_the_process(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A simulated clock. Ours takes 1 s for an image, the other one 4 s."""
    now = [0.0]

    def taking(seconds: float) -> Callable[..., Any]:
        def decode(streams: list[Any], sizes: object) -> list[Any]:
            now[0] += seconds * len(streams)
            return streams

        return decode

    monkeypatch.setattr(decoding.time, "process_time", lambda: now[0])  # type: ignore[attr-defined]
    both = {decoding.OURS: taking(1.0), "other": taking(4.0)}
    monkeypatch.setattr(decoding, "decoders", lambda: both)
    monkeypatch.setattr("slipform.bench.race.worker.isolated", lambda call, *rest: call(*rest))
    out = tmp_path / "result.json"
    done = CliRunner().invoke(decoders.command, [str(shapes), "--quick", "--out", str(out)])
    assert done.exit_code == 0, done.output
    ours, other = read_result(out).rows
    assert (ours.case["decoder"], other.case["decoder"]) == (decoding.OURS, "other")
    assert ours.figures["decode_seconds"].median == pytest.approx(1.0)
    assert other.figures["decode_seconds"].median == pytest.approx(4.0)
    assert other.figures["decode_ratio"].median == pytest.approx(0.25)


def test_raw_pixels_are_refused(shapes_raw: Path) -> None:
    done = CliRunner().invoke(decoders.command, [str(shapes_raw)])
    assert done.exit_code != 0
    assert "give a dataset with JPEGs" in str(done.exception) + done.output
