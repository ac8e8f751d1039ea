"""JPEGs of many kinds, intact and mutated."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

HEIGHT, WIDTH = 203, 331  # no multiples of an MCU
RGB = npt.NDArray[np.uint8]


def waves() -> RGB:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    waves = [np.sin(x / 23 + k) + np.cos(y / 17 - k) for k in range(3)]
    return np.clip(128 + 55 * np.stack(waves, axis=2), 0, 255).astype(np.uint8)


def noise() -> RGB:
    generator = np.random.default_rng(5)
    coarse = generator.integers(0, 256, (HEIGHT // 6 + 1, WIDTH // 6 + 1, 3))
    noise = np.kron(coarse, np.ones((6, 6, 1)))[:HEIGHT, :WIDTH]
    return np.clip(noise + generator.normal(0, 20, noise.shape), 0, 255).astype(np.uint8)


def jpeg(image: RGB, mode: str = "RGB", **options: Any) -> npt.NDArray[np.uint8]:
    buffer = io.BytesIO()
    Image.fromarray(image).convert(mode).save(buffer, "JPEG", **({"quality": 90} | options))
    return np.frombuffer(buffer.getvalue(), np.uint8)


KINDS: dict[str, dict[str, Any]] = {
    "4:2:0": {},
    "4:2:2": {"subsampling": 1},
    "4:4:4": {"subsampling": 0},
    "gray": {"mode": "L"},
    "best": {"quality": 100},
    "worst": {"quality": 1},
    "own codes": {"optimize": True},
    "restarts": {"restart_marker_blocks": 7},
    "restarts by row": {"restart_marker_rows": 1, "subsampling": 0},
}


def mutated(whole: npt.NDArray[np.uint8], generator: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Change, remove or add some bytes. Half of the changes are in the segments."""
    changed = bytearray(whole.tobytes())
    for _ in range(generator.integers(1, 4)):
        end = min(700, len(changed)) if generator.random() < 0.5 else len(changed)
        at = int(generator.integers(2, max(3, end)))
        match generator.integers(0, 5):
            case 0:
                changed[at : at + 1] = bytes([int(generator.integers(0, 256))])
            case 1:
                changed[min(at, len(changed) - 1)] ^= 1 << int(generator.integers(0, 8))
            case 2:
                del changed[at : at + int(generator.integers(1, 5))]
            case 3:
                changed[at:at] = generator.bytes(int(generator.integers(1, 5)))
            case _:
                if generator.random() < 0.3:
                    del changed[at:]
    return np.frombuffer(bytes(changed), np.uint8)
