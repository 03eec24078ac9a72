"""``python -m latticewatch`` is ``latticewatch``."""

from latticewatch.cli import main

main()
