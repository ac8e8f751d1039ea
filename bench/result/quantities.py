"""The registry of quantities: for every figure of a row its heading, its unit, which direction is
better, and how it is written.

In: the name of a figure, as it is in a result file. Out: a `Quantity`. Values are in base units:
images/s, seconds, bytes, processor cores, shares of 1, pure numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal

from slipform.bench.result.result import Estimate, Value

Unit = Literal["images/s", "s", "bytes", "cores", "share", "ratio", "bytes/s", "flop/s"]
_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_RATES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1.0, ""))
_BYTES = ((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "bytes"))


@dataclass(frozen=True)
class Quantity:
    """What a figure means.

    Args:
        heading: Its heading in a table.
        unit: The base unit of its values.
        better: The direction that is better; None where it explains and is not judged.
        within_run: Whether it is a ratio of two measurements of the same rounds: comparable
            between machines.
        decimals: How many digits follow the point; None: as `digits` has it.
    """

    heading: str
    unit: Unit
    better: Literal["higher", "lower"] | None = None
    within_run: bool = False
    decimals: int | None = None

    def text(self, estimate: Estimate | None) -> str:
        """ "2,451 (2,400 to 2,480)", "160 (155 to 171) ms"; the median alone where it was measured
        once, "" for None."""
        if estimate is None:
            return ""
        scale, sign = self.scale(estimate.median)
        write = self._digits
        median, low, high = (
            write(value / scale) for value in (estimate.median, estimate.low, estimate.high)
        )
        spread = "" if estimate.repeats == 1 else f" ({low} to {high})"
        return f"{median}{spread}{sign and ' '}{sign}"

    def number(self, value: float) -> str:
        """One value with its unit."""
        scale, sign = self.scale(value)
        return f"{self._digits(value / scale)}{sign and ' '}{sign}"

    def _digits(self, value: float) -> str:
        return digits(value) if self.decimals is None else f"{value:,.{self.decimals}f}"

    def scale(self, value: float) -> tuple[float, str]:
        """What to divide by, and the sign of the unit then, so that a value like this reads well.

        The sign is "" where the heading names the unit (images/s, cores) and for pure numbers.
        """
        if self.unit == "share":
            return 0.01, "%"
        if self.unit in ("bytes/s", "flop/s"):
            scale, prefix = next(step for step in _RATES if abs(value) >= step[0] or step[1] == "")
            return scale, prefix + {"bytes/s": "B/s", "flop/s": "FLOP/s"}[self.unit]
        steps = {"s": _SECONDS, "bytes": _BYTES}.get(self.unit)
        if steps is None:
            return 1.0, ""
        if value == 0:
            return steps[0]
        return next((step for step in steps if abs(value) >= step[0]), steps[-1])


def digits(value: float) -> str:
    """Three digits, from 100 on the whole number with separators: "3.62", "50.7", "12,346"."""
    size = abs(value)
    if size >= 99.95:
        return f"{value:,.0f}"
    if size >= 0.0995:
        return f"{value:.1f}" if size >= 9.995 else f"{value:.2f}"
    return format(Decimal(f"{value:.3g}"), "f")  # never with an exponent


def _rate(heading: str) -> Quantity:
    return Quantity(heading, "images/s", "higher")


def _seconds(heading: str) -> Quantity:
    return Quantity(heading, "s", "lower")


def _bytes(heading: str) -> Quantity:
    return Quantity(heading, "bytes", "lower")


QUANTITIES: dict[str, Quantity] = {
    "images_per_second": _rate("images/s"),
    "step_images_per_second": _rate("(a) step alone, images/s"),
    "loader_images_per_second": _rate("(b) loader alone, images/s"),
    "end_to_end_images_per_second": _rate("(c) end to end, images/s"),
    "torch_images_per_second": _rate("fed by torch DataLoader, images/s"),
    "end_to_end_ratio": Quantity("c / a", "ratio", "higher", within_run=True),
    "gain_ratio": Quantity("multiple of the usual", "ratio", "higher", within_run=True),
    "cpu_cores": Quantity("cores used", "cores"),
    "wait_share": Quantity("waiting for data", "share"),
    "torch_wait_share": Quantity("waiting for torch DataLoader", "share"),
    "accuracy": Quantity("accuracy", "share", "higher", decimals=2),
    "seconds_to_target": _seconds("to target"),
    "train_seconds": _seconds("training"),
    "start_up_seconds": _seconds("start-up"),
    "test_seconds": _seconds("test"),
    "process_seconds": _seconds("whole process"),
    "data_wait_seconds": _seconds("waiting for data"),
    "first_batch_seconds": _seconds("first batch"),
    "compile_seconds": _seconds("compilation"),
    "copy_bytes_per_second": Quantity("copy", "bytes/s", "higher"),
    "product_flops_per_second": Quantity("product of matrices", "flop/s", "higher"),
    "draw_seconds": _seconds("draw"),
    "render_seconds": _seconds("render"),
    "floor_seconds": Quantity("floor of render", "s"),
    "floor_ratio": Quantity("floor / render", "ratio", "higher", within_run=True),
    "passed_tests": Quantity("tests passed", "ratio", decimals=0),
    "failed_tests": Quantity("failed", "ratio", "lower", decimals=0),
    "error_tests": Quantity("errors", "ratio", "lower", decimals=0),
    "skipped_tests": Quantity("skipped", "ratio", decimals=0),
    "resident_bytes": _bytes("resident memory"),
    "above_imports_bytes": _bytes("of it above imports"),
    "device_used_bytes": _bytes("device memory used"),
    "allocated_bytes": _bytes("allocated"),
    "reserved_bytes": _bytes("reserved"),
}
PER_IMAGE = "_seconds_per_image"
_OURS = "slipform"
_CONTESTANTS = {
    _OURS: "Slipform",
    "dali_reader": "DALI reader",
    "ffcv_loader": "ffcv",
    "spdl_loader": "SPDL",
    "timm_loader": "timm loader",
    "torch_dataloader": "torch DataLoader",
}
_MULTIPLE = "multiple_of_"
# Figures of a suite that is not here are understood by the ends of their names.
_ENDS = {
    "images_per_second": _rate(""),
    "_ratio": Quantity("", "ratio", "higher", within_run=True),
    "_share": Quantity("", "share"),
    "_seconds": _seconds(""),
    "_bytes": _bytes(""),
    "_cores": Quantity("", "cores"),
}


def quantity(name: str) -> Quantity:
    """What the figure of that name means.

    Args:
        name: A key of QUANTITIES, "multiple_of_PEER", "STAGE_seconds_per_image", or a name that
            ends with a base unit.

    Returns:
        The quantity; a pure number that is not judged where the name says nothing.
    """
    if name in QUANTITIES:
        return QUANTITIES[name]
    if name.startswith(_MULTIPLE):
        return Quantity(_words(name), "ratio", "higher", within_run=True)
    if name.endswith(PER_IMAGE):
        return Quantity(f"{_words(name.removesuffix(PER_IMAGE))}, per image", "s")
    for end, found in _ENDS.items():
        if name.endswith(end):
            unit = ", images/s" if found.unit == "images/s" else ""
            stem = name.removesuffix("images_per_second" if unit else end)
            return replace(found, heading=_words(stem).strip() + unit)
    return Quantity(_words(name), "ratio")


def contestant(name: str) -> str:
    """What takes part in a race, as people call it: "slipform host" -> "Slipform host"."""
    first, space, rest = name.partition(" ")
    return _CONTESTANTS.get(first, first) + space + rest


def is_ours(name: str) -> bool:
    """Whether a contestant, or a way of writing, is one of ours."""
    return name.partition(" ")[0] == _OURS


def case_heading(name: str) -> str:
    """What was varied, as a heading: "batch_size" -> "batch size"."""
    return _words(name)


def case_text(value: Value) -> str:
    """The value of a case or a setting in words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


def _words(name: str) -> str:
    return name.replace("_", " ")
