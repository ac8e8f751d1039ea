"""The codes of the operations of a policy: those on positions first, then those on pixels.

In: nothing. Out: constants. Kernels read the single ones, so `kernel` hashes this file.
"""

from __future__ import annotations

from slipform.pipelines.kernel import kernel

__all__ = [
    "AUTO_CONTRAST",
    "BRIGHTNESS",
    "COLOR",
    "CONTRAST",
    "EQUALIZE",
    "INVERT",
    "OPERATIONS",
    "POSTERIZE",
    "ROTATE",
    "SHARPNESS",
    "SHEAR_X",
    "SHEAR_Y",
    "SOLARIZE",
    "TRANSLATE_X",
    "TRANSLATE_Y",
    "changes_pixels",
]

OPERATIONS = (
    "Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate",
    "Brightness", "Color", "Contrast", "Sharpness", "Posterize", "Solarize",
    "AutoContrast", "Equalize", "Invert",
)  # fmt: skip
SHEAR_X, SHEAR_Y, TRANSLATE_X, TRANSLATE_Y, ROTATE = range(1, 6)
BRIGHTNESS, COLOR, CONTRAST, SHARPNESS, POSTERIZE, SOLARIZE = range(6, 12)
AUTO_CONTRAST, EQUALIZE, INVERT = range(12, 15)


@kernel
def changes_pixels(codes, i, c):
    """Whether any operation of a chain changes pixels, and not only their positions.

    Args:
        codes: uint8 [N, C, K], positions in OPERATIONS.
        i, c: Sample and chain.
    """
    found = False
    for k in range(codes.shape[2]):
        found |= codes[i, c, k] >= BRIGHTNESS
    return found
