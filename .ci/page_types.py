"""Type check of the page's JavaScript: ``python .ci/page_types.py [DIR]``, with a compiler that is put into DIR.

Node and npm are those that pyright finds or brings. Types are comments of the JavaScript and ``types.d.ts``;
``clients/latticewatch_dashboard/jsconfig.json`` says how strictly they are checked.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from pyright import node

TYPESCRIPT = "5.9.3"
PROJECT = Path(__file__).parents[1] / "clients/latticewatch_dashboard/jsconfig.json"


def main(folder: Path) -> int:
    """Install the compiler where it is missing, and check."""
    compiler = folder / "node_modules/typescript"
    if not compiler.exists():
        package = f"typescript@{TYPESCRIPT}"
        options = ("--prefix", str(folder), "--silent", "--no-audit", "--no-fund", "--ignore-scripts")
        installed = node.run("npm", "install", *options, package)
        if installed.returncode:
            sys.stdout.write(
                f"not checked: npm could not give {package}; look at its settings, or at the network\n"
            )
            return 0
    return node.run("node", str(compiler / "bin/tsc"), "--project", str(PROJECT)).returncode


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(main(Path(sys.argv[1])))
    with tempfile.TemporaryDirectory() as made:
        sys.exit(main(Path(made)))
