#!/usr/bin/env python3
"""Make docs/reference/constants.md of the list of the constants that decide and of the comments in the source.

    python docs/make_constants.py

What was measured, below the last heading, is kept as it is.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "benchmarks"))

from _constants import CONSTANTS  # noqa: E402  # pyright: ignore[reportMissingImports]

PAGE = ROOT / "docs" / "reference" / "constants.md"
MEASURED = "## What was measured"
HEAD = """# Constants that decide

What is found, what it is called and what is reported depend on these numbers. Other numbers, which are not listed here,
only limit memory and time, or change what a picture looks like. `docs/make_constants.py` makes this page. Values and
reasons are those in the source, in the file that is named, below `service/latticewatch`. A test keeps both the same.

```console
$ python tests/benchmarks/sensitivity.py --only MIN_SEPARATION
```

scores the service with each of them at half and at double its value.

"""


def page(measured: str) -> str:
    """The whole page."""
    lines = [
        "| constant | value | unit | why | too small | too large |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| `{one.file}` `{one.name}` | {one.value():g} | {one.unit} | {one.why()} | {one.below} | {one.above} |"
        for one in CONSTANTS
    ]
    return HEAD + "\n".join(lines) + "\n\n" + measured


def measured_part() -> str:
    """What the page says below the heading of what was measured."""
    text = PAGE.read_text() if PAGE.exists() else ""
    at = text.find(MEASURED)
    return text[at:] if at >= 0 else f"{MEASURED}\n"


if __name__ == "__main__":
    PAGE.write_text(page(measured_part()))
