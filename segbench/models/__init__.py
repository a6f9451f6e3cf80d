"""Architectures, one file per family; ``segbench.models.registry`` lists and builds them."""
