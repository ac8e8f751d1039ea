"""The check of kept JPEGs finds the same damage as a decode, without making pixels."""

from __future__ import annotations

import numpy as np
import pytest

from slipform.pipelines.decoding import jpeg_scan
from slipform.preprocess.encode import Encoding, encode
from tests.pipelines.decoding.jpegs import KINDS, jpeg, mutated, noise


def _outcome(data: bytes, decoded: bool) -> tuple[str, str]:
    """("stored", the damage), or ("rejected", the reason)."""
    try:
        return "stored", encode(data, Encoding(), decoded=decoded).damage
    except ValueError as error:
        return "rejected", str(error)


def test_a_sound_file_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipform.preprocess.encode.decode", None)
    for options in KINDS.values():
        stored = encode(jpeg(noise(), **options).tobytes(), Encoding(), decoded=False)
        assert stored.pixels is None


def test_progressive_files_are_decoded() -> None:
    data = jpeg(noise(), progressive=True).tobytes()
    assert not jpeg_scan.is_sound(data)
    assert encode(data, Encoding(), decoded=False).pixels is not None


def test_damage_is_reported_as_by_a_decode() -> None:
    """The mutated files have every kind of damage that libjpeg reports."""
    generator = np.random.default_rng(3)
    files = [jpeg(noise()[:70, :90], **options) for options in KINDS.values()]
    outcomes = []
    for k in range(600):
        data = mutated(files[k % len(files)], generator).tobytes()
        outcomes.append(_outcome(data, decoded=False))
        assert outcomes[-1] == _outcome(data, decoded=True)
    assert sum(kind == "rejected" for kind, _ in outcomes) > 30
    assert sum(kind == "stored" and text != "" for kind, text in outcomes) > 100
    assert sum(kind == "stored" and text == "" for kind, text in outcomes) > 20
