"""``python -m segbench`` is the same as ``segbench``."""

from segbench.cli import main

main()
