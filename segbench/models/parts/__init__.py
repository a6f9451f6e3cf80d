"""Parts of one architecture family or of a few."""
