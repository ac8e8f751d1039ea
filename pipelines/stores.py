"""Stores of two pixels in a vector of `simd`, in each kind of output.

In: arrays, positions in them, a Float8. Out: the values in the array, converted.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from slipform.pipelines.simd import mask, pointer_to

__all__ = [
    "BFLOAT16", "FLOAT16", "FLOAT32", "LEVELS", "store", "store8", "store_float32", "store_rgb",
]  # fmt: skip

# Kinds of output. LEVELS: whole numbers 0..255 as uint8.
FLOAT32, BFLOAT16, FLOAT16, LEVELS = range(4)
_FLOAT, _I8, _I16, _I32 = ir.FloatType(), ir.IntType(8), ir.IntType(16), ir.IntType(32)
_V8 = ir.VectorType(_FLOAT, 8)
_BYTES = {_FLOAT: 4, _I16: 2, _I8: 1}
_HALVES = (range(4), range(4, 8))


def _write(
    context: Any, builder: Any, array_type: Any, array: Any, places: Any, value: Any, lane: Any
) -> None:
    """Emit the stores of some lanes of a vector at each of the places (position, lanes), as values
    of type `lane`."""
    for position, lanes in places:
        part = builder.shuffle_vector(value, value, mask(lanes))
        vector = ir.VectorType(lane, len(lanes))
        place = pointer_to(context, builder, array_type, array, position, vector)
        builder.store(part, place).align = _BYTES[lane]


def _to_bfloat16(builder: Any, value: Any) -> Any:
    """Round to nearest, ties to even, on the bits."""
    v8 = ir.VectorType(_I32, 8)
    bits = builder.bitcast(value, v8)
    sixteen, one, half = (ir.Constant(v8, [n] * 8) for n in (16, 1, 0x7FFF))
    odd = builder.and_(builder.lshr(bits, sixteen), one)
    return builder.trunc(
        builder.lshr(builder.add(builder.add(bits, half), odd), sixteen), ir.VectorType(_I16, 8)
    )


def _to_float16(builder: Any, value: Any) -> Any:
    half = builder.fptrunc(value, ir.VectorType(ir.HalfType(), 8))
    return builder.bitcast(half, ir.VectorType(_I16, 8))


def _to_levels(builder: Any, value: Any) -> Any:
    """Round values of 0 or more, at most 255.4, to the nearest whole number."""
    half = ir.Constant(_V8, [0.5] * 8)
    whole = builder.fptosi(builder.fadd(value, half), ir.VectorType(_I32, 8))
    return builder.trunc(whole, ir.VectorType(_I8, 8))


# The arrays of 16-bit floats are uint16, because numpy has no bfloat16.
_CONVERTED = {BFLOAT16: _to_bfloat16, FLOAT16: _to_float16}


@intrinsic
def store_float32(typing_context, array, first, second, pixels):
    """Store two pixels. One value to the right of each is overwritten.

    Args:
        array: float32, flat.
        first, second: Their positions in the array.
        pixels: Float8.
    """

    def codegen(context, builder, signature, args):
        places = zip(args[1:3], _HALVES, strict=True)
        _write(context, builder, signature.args[0], args[0], places, args[3], _FLOAT)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, pixels), codegen


@intrinsic
def store_rgb(typing_context, array, at, red, green, blue):
    """Store eight pixels of three levels. The fractions of the values are dropped.

    Args:
        array: uint8.
        at: Position of the first red level.
        red, green, blue: Float8, values of 0 or more, below 256.
    """

    def codegen(context, builder, signature, args):
        v32, v8 = ir.VectorType(_I32, 8), ir.VectorType(_I8, 8)
        levels = [builder.trunc(builder.fptosi(one, v32), v8) for one in args[2:]]
        none = ir.Constant(v8, ir.Undefined)
        first = builder.shuffle_vector(levels[0], levels[1], mask(range(16)))
        second = builder.shuffle_vector(levels[2], none, mask(range(16)))
        pixels = builder.shuffle_vector(
            first, second, mask(8 * channel + pixel for pixel in range(8) for channel in range(3))
        )
        place = pointer_to(
            context, builder, signature.args[0], args[0], args[1], ir.VectorType(_I8, 24)
        )
        builder.store(pixels, place).align = 1
        return context.get_dummy_value()

    return types.void(array, types.intp, red, green, blue), codegen


def _emit(context: Any, builder: Any, signature: Any, args: Any, places: Any) -> Any:
    """Emit the code of `store` and `store8`: a branch for each kind, as far as the types of the
    arrays leave a choice."""
    kind, arrays, value = args[0], args[1:3], args[4]

    def write(which, lane, value):
        array_type = signature.args[1 + which]
        _write(context, builder, array_type, arrays[which], places, value, lane)

    def choose(kinds):
        if not kinds:
            return
        condition = builder.icmp_signed("==", kind, ir.Constant(kind.type, kinds[0]))
        with builder.if_else(condition) as (this, others):
            with this:
                if kinds[0] == FLOAT32:
                    write(0, _FLOAT, value)
                else:
                    write(1, _I16, _CONVERTED[kinds[0]](builder, value))
            with others:
                choose(kinds[1:])

    if isinstance(signature.args[2], types.NoneType):
        write(0, _FLOAT, value)
    elif signature.args[2].dtype == types.uint8:
        write(1, _I8, _to_levels(builder, value))
    else:
        choose((FLOAT32, BFLOAT16, FLOAT16))
    return context.get_dummy_value()


@intrinsic
def store(typing_context, kind, out32, out16, at, pixels):
    """Store two pixels side by side. One value to their right is overwritten.

    Args:
        kind: FLOAT32, BFLOAT16, FLOAT16 or LEVELS.
        out32: Output of kind FLOAT32: float32.
        out16: Output of the other kinds: uint16, the bits of floats, or uint8 of kind LEVELS.
        at: Position of the first pixel in the output.
        pixels: Float8.
    """

    def codegen(context, builder, signature, args):
        at = args[3]
        places = [*zip((at, builder.add(at, ir.Constant(at.type, 3))), _HALVES, strict=True)]
        return _emit(context, builder, signature, args, places)

    return types.void(types.int64, out32, out16, types.intp, pixels), codegen


@intrinsic
def store8(typing_context, kind, out32, out16, at, values):
    """Store eight values, those that `load8` loads.

    Args:
        kind, out32, out16: As for `store`. Without `out16` (None) the kind is FLOAT32.
        at: Position of the first value in the output.
        values: Float8.
    """

    def codegen(context, builder, signature, args):
        return _emit(context, builder, signature, args, [(args[3], range(8))])

    return types.void(types.int64, out32, out16, types.intp, values), codegen
