"""Loops over rows of pixels.

LLVM makes vectors of the loops of these small functions, not of the same loops inside a larger one.
"""

from __future__ import annotations

from latticewatch.vectors import kernel


@kernel
def add_rows(rows, weights, out):  # pragma: no cover - compiled
    """Add ``weights @ rows`` to a row."""
    n = len(weights)
    for r in range(0, n - 3, 4):
        _add_four(
            rows[r],
            rows[r + 1],
            rows[r + 2],
            rows[r + 3],
            weights[r],
            weights[r + 1],
            weights[r + 2],
            weights[r + 3],
            out,
        )
    for r in range(n - n % 4, n):
        _add_one(rows[r], weights[r], out)


@kernel
def _add_four(row0, row1, row2, row3, w0, w1, w2, w3, out):  # pragma: no cover - compiled
    for c in range(len(out)):
        out[c] += w0 * row0[c] + w1 * row1[c] + w2 * row2[c] + w3 * row3[c]


@kernel
def _add_one(row, weight, out):  # pragma: no cover - compiled
    for c in range(len(out)):
        out[c] += weight * row[c]


@kernel
def pool(line, spare, block, out):  # pragma: no cover - compiled
    """Sums of each block of a line; `block` is a power of two, `line` is overwritten, `spare` as long."""
    if block == 1:
        # numba takes 3 s to compile an assignment of slices
        for c in range(len(out)):
            out[c] = line[c]
        return
    n = len(line) // 2
    while n > len(out):
        _halve(line, spare[:n])
        line, spare = spare, line
        n //= 2
    _halve(line, out)


@kernel
def _halve(line, out):  # pragma: no cover - compiled
    for c in range(len(out)):
        out[c] = line[2 * c] + line[2 * c + 1]
