"""A trained network at work: predictions of a split, dense CRF, oracles."""
