"""Both readers are timed for the same streams, by the clock of the thread."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import pytest

from slipform.bench.race import checking
from slipform.pipelines.decoding.jpeg_scan import is_sound


def test_the_check_is_timed_against_libjpeg(shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A simulated clock: the check of a stream takes 3 s, libjpeg 4 s."""
    now, calls = [0.0], Counter[str]()

    def timed(name: str, seconds: float, function: Any) -> Any:
        def call(*arguments: Any) -> Any:
            now[0] += seconds
            calls[name] += 1
            return function(*arguments)

        return call

    decode, sound = cv2.imdecode, is_sound
    monkeypatch.setattr(time, "thread_time", lambda: now[0])
    monkeypatch.setattr(cv2, "imdecode", timed("libjpeg", 4.0, _decoded(decode)))
    monkeypatch.setattr(checking, "is_sound", timed("check", 3.0, _true(sound)))
    found = checking.compare(str(shapes), 2)
    assert calls["check"] == calls["libjpeg"] > 0
    assert calls["check"] % 3 == 0, "one round is discarded"
    assert (found["check_seconds"].median, found["check_seconds"].repeats) == (3.0, 2)
    assert found["check_ratio"].median == pytest.approx(0.75)


def _decoded(decode: Any) -> Any:
    def call(stream: Any, flags: int) -> Any:
        image = decode(stream, flags)
        assert image is not None
        assert image.ndim == 2
        assert max(image.shape) <= 16  # 1/8 of at most 128 pixels
        return image

    return call


def _true(sound: Any) -> Any:
    def call(stream: Any) -> bool:
        assert sound(stream)
        return True

    return call
