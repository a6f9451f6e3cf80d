"""A recipe to weights: data, transforms, optimiser, loop, checkpoints."""
