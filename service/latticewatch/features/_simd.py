"""Vectors of float32 for numba kernels.

LLVM vectorises the innermost loop only, and keeps the sums of the Zernike kernel in memory between its
iterations; with explicit vectors they stay in registers, which is much faster. A `Vector` lives only inside
a kernel: it is loaded from an array, combined, and stored. Kernels are written once for any width: the
width is that of the vector they are given.
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
# As many as leave room for the sums: with AVX-512 there are 32 registers, otherwise 16.
WIDE_LANES = 32 if LANES == 16 else 8

# Orders that the kernel sums at once in one direction: the even ones, then the odd ones.
ORDERS = (0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9)
EVEN_ORDERS = 6

# A caller gives no typing context, which pyright cannot know.
intrinsic: Any = typed_intrinsic

# "fast" without nnan and ninf: a NaN in a frame stays one.
FAST_FLAGS = ("reassoc", "contract", "arcp", "nsz")


class Vector(types.Type):
    """Some float32, side by side in registers."""

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


zeros, wide_zeros = _zeros(LANES), _zeros(WIDE_LANES)


def _address(context: Any, builder: Any, array_type: Any, args: Any, kind: Any, down: int = 0) -> Any:
    """Pointer to `kind` from (array, row, column), some rows further down."""
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
    """``array[row, col:]``, as many as `like` has lanes."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_address(context, builder, array, args[1:], args[0].type), align=4)

    return like(like, array, types.intp, types.intp), codegen


@intrinsic
def store(typingctx: Any, array: Any, row: Any, col: Any, value: Any) -> Any:
    """Write a vector to ``array[row, col:]``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[3], _address(context, builder, array, args, args[3].type), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, value), codegen


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
        return _multiply_add(builder, *args)

    return total(total, types.float32, value), codegen


def _multiply_add(builder: Any, total: Any, factor: Any, value: Any) -> Any:
    product = builder.fmul(_everywhere(builder, factor, value.type), value, flags=FAST_FLAGS)
    return builder.fadd(total, product, flags=FAST_FLAGS)


@intrinsic
def between(typingctx: Any, a: Any, b: Any, fraction: Any) -> Any:
    """``a + fraction * (b - a)`` with a float32 fraction for all lanes."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        a, b, fraction = args
        # Reassociated, it would be the more expensive sum of two products again.
        step = builder.fsub(b, a)
        part = builder.fmul(_everywhere(builder, fraction, a.type), step, flags=("contract",))
        return builder.fadd(a, part, flags=("contract",))

    return a(a, b, types.float32), codegen


@intrinsic
def keep(typingctx: Any, masks: Any, row: Any, col: Any, value: Any) -> Any:
    """The vector where bits of ``masks[row]`` (uint8) are set from bit `col` on; zero, even for NaN, elsewhere.

    `col` is a multiple of 8.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        masks_value, row, col, vector = args
        lanes = vector.type.count
        place = (masks_value, row, builder.lshr(col, ir.Constant(col.type, 3)))
        bits = builder.load(_address(context, builder, masks, place, ir.IntType(lanes)), align=1)
        mask = builder.bitcast(bits, ir.VectorType(ir.IntType(1), lanes))
        return builder.select(mask, vector, ir.Constant(vector.type, None))

    return value(masks, types.intp, types.intp, value), codegen


@intrinsic
def no_sums(typingctx: Any, zero: Any) -> Any:
    """Sums over all `ORDERS`, zero to start with."""
    return _no_sums(zero, len(ORDERS))


@intrinsic
def no_low_sums(typingctx: Any, zero: Any) -> Any:
    """Sums over the first three even and the first three odd orders, zero to start with."""
    return _no_sums(zero, 6)


def _no_sums(zero: Any, n: int) -> Any:
    sums = types.UniTuple(zero, n)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.make_tuple(builder, sums, n * [args[0]])

    return sums(zero), codegen


def _order(i: int, n: int) -> int:
    """Place in `ORDERS` of the i-th of n sums."""
    evens = (n + 1) // 2
    return i if i < evens else EVEN_ORDERS + i - evens


@intrinsic
def accumulate(typingctx: Any, sums: Any, factors: Any, row: Any, even: Any, odd: Any) -> Any:
    """Sums plus ``factors[row]`` times `even` for the even orders, times `odd` for the odd ones."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        totals, factors_value, row, even, odd = args
        updated = []
        for i in range(sums.count):
            order = _order(i, sums.count)
            place = (factors_value, row, ir.Constant(row.type, order))
            factor = builder.load(_address(context, builder, factors, place, ir.FloatType()))
            value = even if order < EVEN_ORDERS else odd
            updated.append(_multiply_add(builder, builder.extract_value(totals, i), factor, value))
        return context.make_tuple(builder, sums, updated)

    return sums(sums, factors, types.intp, even, odd), codegen


@intrinsic
def store_sums(typingctx: Any, array: Any, row: Any, col: Any, rows: Any, cols: Any, sums: Any) -> Any:
    """Write the sum of the i-th of `ORDERS` to ``array[row + i * rows, col + i * cols:]``, in this sequence."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array_value, row, col, rows, cols, totals = args
        for i in range(sums.count):
            order = ir.Constant(row.type, _order(i, sums.count))
            place = (
                array_value,
                builder.add(row, builder.mul(order, rows)),
                builder.add(col, builder.mul(order, cols)),
            )
            value = builder.extract_value(totals, i)
            builder.store(value, _address(context, builder, array, place, value.type), align=4)
        return context.get_dummy_value()

    return types.void(array, *4 * [types.intp], sums), codegen


@intrinsic
def transpose(typingctx: Any, array: Any, row: Any, col: Any, turned: Any, down: Any, right: Any) -> Any:
    """Write the square of LANES² at ``array[row:, col:]``, transposed, to ``turned[down:, right:]``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.VectorType(ir.FloatType(), LANES)
        rows = [
            builder.load(_address(context, builder, array, args[:3], kind, i), align=4) for i in range(LANES)
        ]
        # Quadrants are exchanged, then quadrants of the quadrants: log2(LANES) times.
        step = LANES // 2
        while step:
            lanes = range(LANES)
            upper = [lane if not lane & step else LANES + (lane ^ step) for lane in lanes]
            lower = [lane ^ step if not lane & step else LANES + lane for lane in lanes]
            for i in (i for i in lanes if not i & step):
                a, b = rows[i], rows[i | step]
                for place, picked in ((i, upper), (i | step, lower)):
                    mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), picked)
                    rows[place] = builder.shuffle_vector(a, b, mask)
            step //= 2
        for i, value in enumerate(rows):
            builder.store(value, _address(context, builder, turned, args[3:], kind, i), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, turned, types.intp, types.intp), codegen
