"""Vectors of float32 for numba kernels.

LLVM vectorises the innermost loop only, and keeps the sums of the Zernike kernel in memory between its
iterations; with explicit vectors they stay in registers, which is much faster. A `Vector` lives only inside
a kernel: it is loaded from an array, combined, and stored.
"""

# ruff: noqa: ARG001 (the signatures are numba's)

from __future__ import annotations

from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel.models import PrimitiveModel
from numba.extending import intrinsic as typed_intrinsic
from numba.extending import register_model

# One register of the widest kind. The kernel's cache on disk knows the processor it was made for, but does
# not notice an edit of this file: delete __pycache__ after one.
LANES = 16 if binding.get_host_cpu_features().get("avx512f") else 8

# A caller gives no typing context, which pyright cannot know.
intrinsic: Any = typed_intrinsic

# "fast" without nnan and ninf: a NaN in a frame stays one.
FAST_FLAGS = ("reassoc", "contract", "arcp", "nsz")


class Vector(types.Type):
    """LANES float32."""


@register_model(Vector)
class _VectorModel(PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Vector) -> None:
        super().__init__(manager, fe_type, ir.VectorType(ir.FloatType(), LANES))


vector = Vector(f"float32x{LANES}")


def _address(context: Any, builder: Any, signature: Any, args: Any, kind: Any) -> Any:
    """Pointer to a vector from (array, row, column)."""
    array = context.make_array(signature.args[0])(context, builder, args[0])
    index = [
        context.cast(builder, value, integer, types.intp)
        for value, integer in zip(args[1:3], signature.args[1:3], strict=True)
    ]
    pointer = cgutils.get_item_pointer(context, builder, signature.args[0], array, index)
    return builder.bitcast(pointer, kind.as_pointer())


@intrinsic
def zeros(typingctx: Any) -> Any:
    """Vector of zeros."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return ir.Constant(context.get_value_type(vector), None)

    return vector(), codegen


@intrinsic
def load(typingctx: Any, array: Any, row: Any, col: Any) -> Any:
    """``array[row, col : col + LANES]``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = context.get_value_type(vector)
        return builder.load(_address(context, builder, signature, args, kind), align=4)

    return vector(array, row, col), codegen


@intrinsic
def store(typingctx: Any, array: Any, row: Any, col: Any, value: Any) -> Any:
    """Write a vector to ``array[row, col:]``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[3], _address(context, builder, signature, args, args[3].type), align=4)
        return context.get_dummy_value()

    return types.void(array, row, col, value), codegen


@intrinsic
def add(typingctx: Any, a: Any, b: Any) -> Any:
    """Sum of two vectors."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fadd(*args, flags=FAST_FLAGS)

    return a(a, b), codegen


@intrinsic
def subtract(typingctx: Any, a: Any, b: Any) -> Any:
    """Difference of two vectors."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fsub(*args, flags=FAST_FLAGS)

    return a(a, b), codegen


@intrinsic
def multiply_add(typingctx: Any, total: Any, factor: Any, value: Any) -> Any:
    """``total + factor * value`` with a float32 factor for all lanes."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        total, factor, value = args
        empty = ir.Constant(value.type, ir.Undefined)
        first = builder.insert_element(empty, factor, ir.Constant(ir.IntType(32), 0))
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), LANES), None)
        everywhere = builder.shuffle_vector(first, empty, lanes)
        product = builder.fmul(everywhere, value, flags=FAST_FLAGS)
        return builder.fadd(total, product, flags=FAST_FLAGS)

    return total(total, types.float32, value), codegen


@intrinsic
def keep(typingctx: Any, masks: Any, row: Any, col: Any, value: Any) -> Any:
    """The vector where ``masks[row, col:]`` (uint32) has all bits set; zero, even for NaN, elsewhere."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = ir.VectorType(ir.IntType(32), LANES)
        mask = builder.load(_address(context, builder, signature, args, bits), align=4)
        return builder.bitcast(builder.and_(mask, builder.bitcast(args[3], bits)), args[3].type)

    return value(masks, row, col, value), codegen
