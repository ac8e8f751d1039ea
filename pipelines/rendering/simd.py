"""Eight-lane float vectors for numba: two RGB pixels side by side, (r, g, b, _, r, g, b, _).

In: float32 arrays and positions in them. Out: values of type Float8 that live in one AVX register
(LLVM splits them where the processor has narrower ones). Numba's own vectorizer cannot gather
pixels of three channels; these few operations are what `render.py` needs (`resample.py` says how
fast that is).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

_FLOAT, _I16, _I32 = ir.FloatType(), ir.IntType(16), ir.IntType(32)
_V4, _V8 = ir.VectorType(_FLOAT, 4), ir.VectorType(_FLOAT, 8)


class _Float8(types.Type):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(name="Float8")


float8 = _Float8()


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
    value.align = 4  # pixels of three channels lie anywhere
    return value


@intrinsic
def load8(typing_context, array, index):
    """Eight floats from array[index]."""

    def codegen(context, builder, signature, args):
        return _load(context, builder, signature.args[0], args[0], args[1], _V8)

    return float8(array, types.intp), codegen


@intrinsic
def load_pixels(typing_context, array, first, second):
    """Four floats from array[first] and four from array[second]; the fourth of each is the next
    pixel's red, and ignored."""

    def codegen(context, builder, signature, args):
        a = _load(context, builder, signature.args[0], args[0], args[1], _V4)
        b = _load(context, builder, signature.args[0], args[0], args[2], _V4)
        return builder.shuffle_vector(a, b, _mask(range(8)))

    return float8(array, types.intp, types.intp), codegen


@intrinsic
def zeros(typing_context):
    def codegen(context, builder, signature, args):
        return ir.Constant(_V8, [0.0] * 8)

    return float8(), codegen


@intrinsic
def mul_add(typing_context, a, b, c):
    """a * b + c, rounded once."""

    def codegen(context, builder, signature, args):
        fma = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_V8, [_V8] * 3), "llvm.fma.v8f32"
        )
        return builder.call(fma, args)

    return float8(float8, float8, float8), codegen


@intrinsic
def halves(typing_context, first, second):
    """One float32 in the first pixel's lanes, another in the second's."""

    def codegen(context, builder, signature, args):
        two = ir.Constant(ir.VectorType(_FLOAT, 2), ir.Undefined)
        for lane, value in enumerate(args):
            two = builder.insert_element(two, value, ir.Constant(_I32, lane))
        return builder.shuffle_vector(two, two, _mask([0] * 4 + [1] * 4))

    return float8(types.float32, types.float32), codegen


@intrinsic
def pair_sums(typing_context, a, b):
    """(a's two pixels added, b's two pixels added)."""

    def codegen(context, builder, signature, args):
        lows = builder.shuffle_vector(args[0], args[1], _mask([0, 1, 2, 3, 8, 9, 10, 11]))
        highs = builder.shuffle_vector(args[0], args[1], _mask([4, 5, 6, 7, 12, 13, 14, 15]))
        return builder.fadd(lows, highs)

    return float8(float8, float8), codegen


def _broadcast_channel(channel: int) -> Any:
    @intrinsic
    def broadcast(typing_context, pixels):
        def codegen(context, builder, signature, args):
            return builder.shuffle_vector(
                args[0], args[0], _mask([channel] * 4 + [channel + 4] * 4)
            )

        return float8(float8), codegen

    return broadcast


red, green, blue = _broadcast_channel(0), _broadcast_channel(1), _broadcast_channel(2)


def _store_pixels(lane: Any, convert: Any) -> Any:
    """An intrinsic that stores two pixels, four lanes each, as `lane`s, after `convert`."""
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


# 16-bit floats go into uint16 arrays: numpy has no bfloat16.
store_float32 = _store_pixels(_FLOAT, lambda builder, value: value)
store_bfloat16 = _store_pixels(_I16, _to_bfloat16)
store_float16 = _store_pixels(_I16, _to_float16)
