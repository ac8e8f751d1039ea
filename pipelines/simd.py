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
    "BFLOAT16",
    "FLOAT16",
    "FLOAT32",
    "LEVELS",
    "add",
    "blue",
    "divide",
    "floor",
    "green",
    "halves",
    "load8",
    "load_pixels",
    "maximum",
    "minimum",
    "mul_add",
    "multiply",
    "pair_sums",
    "red",
    "store",
    "store_float32",
    "subtract",
    "zeros",
]

# Kinds of output. LEVELS: whole numbers 0..255 as uint16.
FLOAT32, BFLOAT16, FLOAT16, LEVELS = range(4)
_FLOAT, _I16, _I32 = ir.FloatType(), ir.IntType(16), ir.IntType(32)
_V4, _V8 = ir.VectorType(_FLOAT, 4), ir.VectorType(_FLOAT, 8)


class _Float8(types.Type):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(name="Float8")


_float8 = _Float8()


@register_model(_Float8)
class _Float8Model(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, _V8)


def _mask(lanes: Any) -> ir.Constant:
    lanes = list(lanes)
    return ir.Constant(ir.VectorType(_I32, len(lanes)), lanes)


def _pointer(
    context: Any, builder: Any, array_type: Any, array: Any, index: Any, vector: Any
) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


def _load(context: Any, builder: Any, array_type: Any, array: Any, index: Any, vector: Any) -> Any:
    value = builder.load(_pointer(context, builder, array_type, array, index, vector))
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
        return builder.shuffle_vector(a, b, _mask(range(8)))

    return _float8(array, types.intp, types.intp), codegen


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
        return builder.shuffle_vector(two, two, _mask([0] * 4 + [1] * 4))

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
        lows = builder.shuffle_vector(args[0], args[1], _mask([0, 1, 2, 3, 8, 9, 10, 11]))
        highs = builder.shuffle_vector(args[0], args[1], _mask([4, 5, 6, 7, 12, 13, 14, 15]))
        return builder.fadd(lows, highs)

    return _float8(_float8, _float8), codegen


def _broadcast_channel(channel: int) -> Any:
    @intrinsic
    def broadcast(typing_context, pixels):
        def codegen(context, builder, signature, args):
            return builder.shuffle_vector(
                args[0], args[0], _mask([channel] * 4 + [channel + 4] * 4)
            )

        return _float8(_float8), codegen

    return broadcast


# Float8 -> Float8: one channel of each pixel in all four lanes of the pixel.
red, green, blue = _broadcast_channel(0), _broadcast_channel(1), _broadcast_channel(2)


def _store_pixels(lane: Any, convert: Any) -> Any:
    """An intrinsic that converts two pixels to type `lane` and stores four lanes of each."""
    four = ir.VectorType(lane, 4)

    @intrinsic
    def store(typing_context, array, first, second, pixels):
        def codegen(context, builder, signature, args):
            value = convert(builder, args[3])
            for index, lanes in ((args[1], range(4)), (args[2], range(4, 8))):
                half = builder.shuffle_vector(value, value, _mask(lanes))
                stored = builder.store(
                    half, _pointer(context, builder, signature.args[0], args[0], index, four)
                )
                stored.align = lane.width // 8 if isinstance(lane, ir.IntType) else 4
            return context.get_dummy_value()

        return types.void(array, types.intp, types.intp, pixels), codegen

    return store


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
    return builder.trunc(whole, ir.VectorType(_I16, 8))


# (array, first, second, pixels): store two pixels at positions first and second of an array.
store_float32 = _store_pixels(_FLOAT, lambda builder, value: value)
# The arrays of 16-bit floats are uint16, because numpy has no bfloat16.
_CONVERTED = {BFLOAT16: _to_bfloat16, FLOAT16: _to_float16, LEVELS: _to_levels}


@intrinsic
def store(typing_context, kind, out32, out16, at, pixels):
    """Store two pixels side by side. One value to their right is overwritten.

    Args:
        kind: FLOAT32, BFLOAT16, FLOAT16 or LEVELS.
        out32: Output of kind FLOAT32: float32.
        out16: Output of the other kinds, as bits: uint16.
        at: Position of the first pixel in the output.
        pixels: Float8.
    """

    def codegen(context, builder, signature, args):
        kind, arrays, at, value = args[0], args[1:3], args[3], args[4]

        def write(which, lane, value):
            four, array_type = ir.VectorType(lane, 4), signature.args[1 + which]
            for lanes in (range(4), range(4, 8)):
                index = builder.add(at, ir.Constant(at.type, 3 * (lanes[0] // 4)))
                half = builder.shuffle_vector(value, value, _mask(lanes))
                place = _pointer(context, builder, array_type, arrays[which], index, four)
                builder.store(half, place).align = 4 if lane is _FLOAT else 2

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

        choose((FLOAT32, BFLOAT16, FLOAT16, LEVELS))
        return context.get_dummy_value()

    return types.void(types.int64, out32, out16, types.intp, pixels), codegen
