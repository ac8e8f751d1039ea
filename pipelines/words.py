"""Vectors of eight words for numba: eight counters of Philox, for which it runs at the same time.

In: uint64 that hold 32 bits each. Out: values of type Words8, in two AVX registers. LLVM splits
them if the processor has narrower registers. `*`, `^`, `&`, `|`, `+`, `<<` and `>>` take two
vectors, or a vector and a number. So code that is written for numbers also runs for vectors. LLVM
itself does not vectorize a loop around the ten rounds of Philox.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, overload, register_model

from slipform.pipelines.simd import mask, pointer_to

__all__ = ["LANES", "load_words", "store_units", "store_words", "words"]

LANES = 8
_WORDS = ir.VectorType(ir.IntType(64), LANES)
_UNITS = ir.VectorType(ir.DoubleType(), LANES)


class _Words8(types.Type):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(name="Words8")


_words8 = _Words8()


@register_model(_Words8)
class _Words8Model(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, _WORDS)


def _in_all_lanes(builder: Any, value: Any) -> Any:
    one = builder.insert_element(
        ir.Constant(_WORDS, ir.Undefined), value, ir.Constant(ir.IntType(32), 0)
    )
    return builder.shuffle_vector(one, one, mask([0] * LANES))


def _store(context: Any, builder: Any, signature: Any, args: Any, value: Any, vector: Any) -> Any:
    """Emit the store of a vector in the array and at the position that come first in `args`."""
    place = pointer_to(context, builder, signature.args[0], args[0], args[1], vector)
    builder.store(value, place).align = 8
    return context.get_dummy_value()


@intrinsic
def words(typing_context, value):
    """The same number in all lanes.

    Args:
        value: uint64.

    Returns:
        Words8.
    """

    def codegen(context, builder, signature, args):
        return _in_all_lanes(builder, args[0])

    return _words8(types.uint64), codegen


@intrinsic
def load_words(typing_context, array, index):
    """Load eight words.

    Args:
        array: uint64.
        index: Position of the first one.

    Returns:
        Words8.
    """

    def codegen(context, builder, signature, args):
        value = builder.load(
            pointer_to(context, builder, signature.args[0], args[0], args[1], _WORDS)
        )
        value.align = 8
        return value

    return _words8(array, types.intp), codegen


@intrinsic
def store_words(typing_context, array, index, value):
    """Store eight words.

    Args:
        array: Output, uint64.
        index: Position of the first one.
        value: Words8.
    """

    def codegen(context, builder, signature, args):
        return _store(context, builder, signature, args, args[2], _WORDS)

    return types.void(array, types.intp, _words8), codegen


@intrinsic
def store_units(typing_context, array, index, value):
    """Store eight words of 32 bits as numbers in the open interval (0, 1): (word + 0.5) / 2**32.

    Args:
        array: Output, float64.
        index: Position of the first one.
        value: Words8.
    """

    def codegen(context, builder, signature, args):
        units = builder.uitofp(args[2], _UNITS)  # exact, and so is the rest
        units = builder.fadd(units, ir.Constant(_UNITS, [0.5] * LANES))
        units = builder.fmul(units, ir.Constant(_UNITS, [2.0**-32] * LANES))
        return _store(context, builder, signature, args, units, _UNITS)

    return types.void(array, types.intp, _words8), codegen


def _define(written: Callable[[Any, Any], Any], emitted: str) -> None:
    """Define an operator for vectors."""

    @intrinsic
    def apply(typing_context, a, b):
        def codegen(context, builder, signature, args):
            vectors = [
                value if isinstance(kind, _Words8) else _in_all_lanes(builder, value)
                for kind, value in zip(signature.args, args, strict=True)
            ]
            return getattr(builder, emitted)(*vectors)

        kinds = (one if isinstance(one, _Words8) else types.uint64 for one in (a, b))
        return _words8(*kinds), codegen

    @overload(written)
    def choose(a, b):
        if isinstance(a, _Words8) or isinstance(b, _Words8):
            return lambda a, b: apply(a, b)
        return None


_define(operator.mul, "mul")
_define(operator.add, "add")
_define(operator.xor, "xor")
_define(operator.and_, "and_")
_define(operator.or_, "or_")
_define(operator.lshift, "shl")
_define(operator.rshift, "lshr")
