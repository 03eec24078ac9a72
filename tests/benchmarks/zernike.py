"""Zernike moments of the patches around sites: ours in place, motif-learn, and one float32 matrix product.

``python tests/benchmarks/zernike.py [--seconds 5]`` prints a table; nothing is asserted. The measurement is that of
``latticewatch bench``, which does the rest of the service as well.
"""

from __future__ import annotations

import argparse
import sys

from latticewatch.bench import find_script, measure_zernike
from latticewatch.bench._zernike import MOTIF_LEARN, PRODUCT

SIZES = (36, 128)


def main() -> None:
    """Measure every size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each size, default 5")
    arguments = parser.parse_args()
    script = find_script()
    if script is None:
        sys.exit("motif-learn is not installed; install the extra 'bench'")
    sys.stdout.write(f"{'px':>5s} {'':34s}{'us':>8s}{'patches/s':>12s}{'x motif':>9s}{'x product':>10s}\n")
    for size in SIZES:
        rows = measure_zernike(size, script, arguments.seconds)
        median = {row.name: row.us_per_patch.median for row in rows}
        for row in rows:
            us = median[row.name]
            sys.stdout.write(
                f"{size:5d} {row.name:34s}{us:8.2f}{row.patches_per_s:12,.0f}"
                f"{median[MOTIF_LEARN] / us:9.1f}{median[PRODUCT] / us:10.1f}\n"
            )


if __name__ == "__main__":
    main()
