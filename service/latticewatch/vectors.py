"""Vectors of float32 for numba kernels.

LLVM vectorises the innermost loop only, and keeps sums in memory between its iterations; with explicit vectors they
stay in registers, which is much faster. A `Vector` lives only inside a kernel: it is loaded from an array, combined,
and stored. Kernels are written once for any width: the width is that of the vector they are given.

Every rounding is written down: what a kernel gives does not depend on what else was compiled with it. Where LLVM may
reorder or fuse ("fast math"), a kernel that has just been compiled gives other last digits than the same one from the
cache, and a frame other events on another worker.
"""

# ruff: noqa: ARG001 (the signatures are numba's)

from __future__ import annotations

import platform
from typing import Any

from llvmlite import binding, ir
from numba import njit, types
from numba.core import cgutils
from numba.core.datamodel.models import PrimitiveModel
from numba.extending import intrinsic as typed_intrinsic
from numba.extending import register_model

# One register of the widest kind. The kernel's cache on disk knows the processor it was made for, but does
# not notice an edit of this file: delete __pycache__ after one.
LANES = 16 if binding.get_host_cpu_features().get("avx512f") else 8
# As many as leave room for the sums: with AVX-512 there are 32 registers, otherwise 16.
WIDE_LANES = 32 if LANES == 16 else 8
# For the last few columns of a patch; masks come in bytes.
NARROW_LANES = 8

# A caller gives no typing context, which pyright cannot know.
intrinsic: Any = typed_intrinsic

# Whether a product is added in one step, rounded once; without such an instruction that would be very slow.
FUSED = bool(binding.get_host_cpu_features().get("fma")) or platform.machine() in ("aarch64", "arm64")

kernel = njit(cache=True, nogil=True)
# For what is the same in any order: whole numbers that are counted in float32, and comparisons. Never for other sums.
counting_kernel = njit(cache=True, nogil=True, fastmath={"reassoc", "nsz"})


class Vector(types.Type):
    """Some float32, side by side in registers.

    Parameters
    ----------
    lanes : int
        How many.
    """

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        super().__init__(name=f"float32x{lanes}")


@register_model(Vector)
class _VectorModel(PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Vector) -> None:
        super().__init__(manager, fe_type, ir.VectorType(ir.FloatType(), fe_type.lanes))


def _zeros(lanes: int) -> Any:
    kind = Vector(lanes)

    @intrinsic
    def zeros(typingctx: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return ir.Constant(context.get_value_type(kind), None)

        return kind(), codegen

    return zeros


zeros, wide_zeros, narrow_zeros = _zeros(LANES), _zeros(WIDE_LANES), _zeros(NARROW_LANES)


def address(context: Any, builder: Any, array_type: Any, args: Any, kind: Any, down: int = 0) -> Any:
    """For the bodies of intrinsics: pointer to an element of an array.

    Parameters
    ----------
    context, builder : object
        Numba's, as its code generators get them.
    array_type : numba.types.Array
    args : sequence
        LLVM values of the array, the row and the column.
    kind : llvmlite.ir.Type
        What the pointer is to point to.
    down : int
        Rows further down.

    Returns
    -------
    llvmlite.ir.Value
    """
    array = context.make_array(array_type)(context, builder, args[0])
    row = builder.add(args[1], ir.Constant(args[1].type, down))
    pointer = cgutils.get_item_pointer(context, builder, array_type, array, [row, args[2]])
    return builder.bitcast(pointer, kind.as_pointer())


def _everywhere(builder: Any, factor: Any, kind: Any) -> Any:
    """The factor in all lanes."""
    empty = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(empty, factor, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, empty, ir.Constant(ir.VectorType(ir.IntType(32), kind.count), None))


@intrinsic
def load(typingctx: Any, like: Any, array: Any, row: Any, col: Any) -> Any:
    """``array[row, col:]``, as many as `like` has lanes.

    Parameters
    ----------
    like : Vector
    array : ndarray of two axes, float32
    row, col : int
        Where it begins; so many columns must follow.

    Returns
    -------
    Vector
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(address(context, builder, array, args[1:], args[0].type), align=4)

    return like(like, array, types.intp, types.intp), codegen


@intrinsic
def store(typingctx: Any, array: Any, row: Any, col: Any, value: Any) -> Any:
    """Write a vector to ``array[row, col:]``.

    Parameters
    ----------
    array : ndarray of two axes, float32
    row, col : int
        Where it begins; so many columns must follow.
    value : Vector
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[3], address(context, builder, array, args, args[3].type), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, value), codegen


def _lane_by_lane(instruction: str) -> Any:
    @intrinsic
    def combine(typingctx: Any, a: Any, b: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return getattr(builder, instruction)(*args)

        return a(a, b), codegen

    return combine


# Sum, difference and product of two vectors, lane by lane.
add, subtract, multiply = map(_lane_by_lane, ("fadd", "fsub", "fmul"))


@intrinsic
def multiply_add(typingctx: Any, total: Any, factor: Any, value: Any) -> Any:
    """``total + factor * value`` with a float32 factor for all lanes.

    Parameters
    ----------
    total : Vector
    factor : float32
    value : Vector

    Returns
    -------
    Vector
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return multiplied_and_added(builder, *args)

    return total(total, types.float32, value), codegen


def multiplied_and_added(builder: Any, total: Any, factor: Any, value: Any) -> Any:
    """For the bodies of intrinsics: see `multiply_add`.

    Parameters
    ----------
    builder : llvmlite.ir.IRBuilder
    total, factor, value : llvmlite.ir.Value

    Returns
    -------
    llvmlite.ir.Value
    """
    return _fused(builder, total, _everywhere(builder, factor, value.type), value)


def _fused(builder: Any, total: Any, factor: Any, value: Any) -> Any:
    """``total + factor * value`` of three vectors, rounded once where the processor can."""
    if not FUSED:
        return builder.fadd(total, builder.fmul(factor, value))
    kind = value.type
    signature = ir.FunctionType(kind, 3 * [kind])
    fma = cgutils.get_or_insert_function(builder.module, signature, f"llvm.fma.v{kind.count}f32")
    return builder.call(fma, [factor, value, total])


@intrinsic
def between(typingctx: Any, a: Any, b: Any, fraction: Any) -> Any:
    """``a + fraction * (b - a)`` with a float32 fraction for all lanes.

    Parameters
    ----------
    a, b : Vector
    fraction : float32

    Returns
    -------
    Vector
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        a, b, fraction = args
        return _fused(builder, a, _everywhere(builder, fraction, a.type), builder.fsub(b, a))

    return a(a, b, types.float32), codegen


@intrinsic
def summed(typingctx: Any, vector: Any) -> Any:
    """Sum of the lanes of a vector: those of its two halves first, then of theirs.

    Parameters
    ----------
    vector : Vector

    Returns
    -------
    float32
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value, index = args[0], ir.IntType(32)
        while value.type.count > 1:
            half = value.type.count // 2
            wanted = ir.VectorType(index, half)
            low, high = (ir.Constant(wanted, [first + k for k in range(half)]) for first in (0, half))
            other = ir.Constant(value.type, ir.Undefined)
            value = builder.fadd(
                builder.shuffle_vector(value, other, low), builder.shuffle_vector(value, other, high)
            )
        return builder.extract_element(value, ir.Constant(index, 0))

    return types.float32(vector), codegen
