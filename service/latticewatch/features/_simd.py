"""What the Zernike kernel does with vectors, beside what others do: masks, sums over all orders, transposition."""

# ruff: noqa: ARG001 (the signatures are numba's)

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from latticewatch.vectors import LANES, address, intrinsic, multiplied_and_added

# Orders that the kernel sums at once in one direction: the even ones, then the odd ones.
ORDERS = (0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9)
EVEN_ORDERS = 6


@intrinsic
def keep(typingctx: Any, masks: Any, row: Any, col: Any, value: Any) -> Any:
    """The vector where bits of ``masks[row]`` (uint8) are set from bit `col` on; zero, even for NaN, elsewhere.

    `col` is a multiple of 8.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        masks_value, row, col, vector = args
        lanes = vector.type.count
        place = (masks_value, row, builder.lshr(col, ir.Constant(col.type, 3)))
        bits = builder.load(address(context, builder, masks, place, ir.IntType(lanes)), align=1)
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
            factor = builder.load(address(context, builder, factors, place, ir.FloatType()))
            value = even if order < EVEN_ORDERS else odd
            updated.append(multiplied_and_added(builder, builder.extract_value(totals, i), factor, value))
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
            builder.store(value, address(context, builder, array, place, value.type), align=4)
        return context.get_dummy_value()

    return types.void(array, *4 * [types.intp], sums), codegen


@intrinsic
def transpose(typingctx: Any, array: Any, row: Any, col: Any, turned: Any, down: Any, right: Any) -> Any:
    """Write the square of LANES² at ``array[row:, col:]``, transposed, to ``turned[down:, right:]``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.VectorType(ir.FloatType(), LANES)
        rows = [
            builder.load(address(context, builder, array, args[:3], kind, i), align=4) for i in range(LANES)
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
            builder.store(value, address(context, builder, turned, args[3:], kind, i), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, turned, types.intp, types.intp), codegen
