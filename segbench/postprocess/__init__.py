"""From what networks say to what is scored; NumPy on one image at a time."""
