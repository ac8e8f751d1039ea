"""Vectors of eight floats for numba: two RGB pixels side by side, (r, g, b, _, r, g, b, _).

In: arrays and positions in them. Out: values of type Float8 in one AVX register. LLVM splits them
if the processor has narrower registers. numba itself cannot vectorize loops over pixels of three
channels. The kernels need only these operations. `resample.py` says how fast they are.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

__all__ = [
    "add",
    "blue",
    "divide",
    "floor",
    "green",
    "halves",
    "load8",
    "load_levels",
    "load_pixels",
    "mask",
    "maximum",
    "minimum",
    "mul_add",
    "multiply",
    "pair_sums",
    "pointer_to",
    "red",
    "subtract",
    "zeros",
]

_FLOAT, _I32 = ir.FloatType(), ir.IntType(32)
_V4, _V8 = ir.VectorType(_FLOAT, 4), ir.VectorType(_FLOAT, 8)


class _Float8(types.Type):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(name="Float8")


_float8 = _Float8()


@register_model(_Float8)
class _Float8Model(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, _V8)


def mask(lanes: Any) -> ir.Constant:
    """The mask of a shuffle.

    Args:
        lanes: The number of the source lane, for each lane of the result.
    """
    lanes = list(lanes)
    return ir.Constant(ir.VectorType(_I32, len(lanes)), lanes)


def pointer_to(
    context: Any, builder: Any, array_type: Any, array: Any, index: Any, vector: Any
) -> Any:
    """Emit the address of a vector in an array.

    Args:
        context, builder: Of numba's code generation.
        array_type, array: The array.
        index: Position of the first value.
        vector: The type of the vector.
    """
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


def _load(context: Any, builder: Any, array_type: Any, array: Any, index: Any, vector: Any) -> Any:
    value = builder.load(pointer_to(context, builder, array_type, array, index, vector))
    value.align = 4  # pixels of three channels begin at any float
    return value


@intrinsic
def load8(typing_context, array, index):
    """Load eight floats.

    Args:
        array: float32.
        index: Position of the first one.

    Returns:
        Float8.
    """

    def codegen(context, builder, signature, args):
        return _load(context, builder, signature.args[0], args[0], args[1], _V8)

    return _float8(array, types.intp), codegen


@intrinsic
def load_pixels(typing_context, array, first, second):
    """Load two pixels of three channels.

    The fourth lane of each is the red value of the next pixel. It is not used.

    Args:
        array: float32.
        first, second: Positions of the red values.

    Returns:
        Float8.
    """

    def codegen(context, builder, signature, args):
        a = _load(context, builder, signature.args[0], args[0], args[1], _V4)
        b = _load(context, builder, signature.args[0], args[0], args[2], _V4)
        return builder.shuffle_vector(a, b, mask(range(8)))

    return _float8(array, types.intp, types.intp), codegen


@intrinsic
def load_levels(typing_context, array, at):
    """Load two pixels of three levels. Two bytes behind them are read, too.

    The fourth lane of each is not used.

    Args:
        array: uint8.
        at: Position of the first red value.

    Returns:
        Float8.
    """

    def codegen(context, builder, signature, args):
        eight = ir.VectorType(ir.IntType(8), 8)
        place = pointer_to(context, builder, signature.args[0], args[0], args[1], eight)
        levels = builder.load(place)
        levels.align = 1
        pixels = builder.shuffle_vector(levels, levels, mask((0, 1, 2, 2, 3, 4, 5, 5)))
        whole = builder.zext(pixels, ir.VectorType(_I32, 8))
        return builder.sitofp(whole, _V8)

    return _float8(array, types.intp), codegen


@intrinsic
def zeros(typing_context):
    """Float8 of eight zeros."""

    def codegen(context, builder, signature, args):
        return ir.Constant(_V8, [0.0] * 8)

    return _float8(), codegen


@intrinsic
def mul_add(typing_context, a, b, c):
    """a * b + c, rounded once.

    Args:
        a, b, c: Float8.

    Returns:
        Float8.
    """

    def codegen(context, builder, signature, args):
        fma = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_V8, [_V8] * 3), "llvm.fma.v8f32"
        )
        return builder.call(fma, args)

    return _float8(_float8, _float8, _float8), codegen


def _binary(operation: str) -> Any:
    @intrinsic
    def apply(typing_context, a, b):
        def codegen(context, builder, signature, args):
            return getattr(builder, operation)(*args)

        return _float8(_float8, _float8), codegen

    return apply


def _choice(comparison: str) -> Any:
    @intrinsic
    def choose(typing_context, a, b):
        def codegen(context, builder, signature, args):
            return builder.select(builder.fcmp_ordered(comparison, *args), *args)

        return _float8(_float8, _float8), codegen

    return choose


# (a, b) -> Float8, each one rounded by itself.
add, subtract, multiply, divide = map(_binary, ("fadd", "fsub", "fmul", "fdiv"))
minimum, maximum = _choice("<"), _choice(">")


@intrinsic
def floor(typing_context, a):
    """Round down.

    Args:
        a: Float8.

    Returns:
        Float8.
    """

    def codegen(context, builder, signature, args):
        down = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_V8, [_V8]), "llvm.floor.v8f32"
        )
        return builder.call(down, args)

    return _float8(_float8), codegen


@intrinsic
def halves(typing_context, first, second):
    """A number for each of two pixels.

    Args:
        first, second: float32, for the four lanes of the first and of the second pixel.

    Returns:
        Float8.
    """

    def codegen(context, builder, signature, args):
        two = ir.Constant(ir.VectorType(_FLOAT, 2), ir.Undefined)
        for lane, value in enumerate(args):
            two = builder.insert_element(two, value, ir.Constant(_I32, lane))
        return builder.shuffle_vector(two, two, mask([0] * 4 + [1] * 4))

    return _float8(types.float32, types.float32), codegen


@intrinsic
def pair_sums(typing_context, a, b):
    """Add pixels in pairs.

    Args:
        a, b: Float8.

    Returns:
        Float8: the sum of the two pixels of a, and the sum of the two pixels of b.
    """

    def codegen(context, builder, signature, args):
        lows = builder.shuffle_vector(args[0], args[1], mask([0, 1, 2, 3, 8, 9, 10, 11]))
        highs = builder.shuffle_vector(args[0], args[1], mask([4, 5, 6, 7, 12, 13, 14, 15]))
        return builder.fadd(lows, highs)

    return _float8(_float8, _float8), codegen


def _broadcast_channel(channel: int) -> Any:
    @intrinsic
    def broadcast(typing_context, pixels):
        def codegen(context, builder, signature, args):
            return builder.shuffle_vector(args[0], args[0], mask([channel] * 4 + [channel + 4] * 4))

        return _float8(_float8), codegen

    return broadcast


# Float8 -> Float8: one channel of each pixel in all four lanes of the pixel.
red, green, blue = _broadcast_channel(0), _broadcast_channel(1), _broadcast_channel(2)
