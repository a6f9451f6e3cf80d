"""Architectures, one file per family; ``segbench.registry`` lists and builds them."""
