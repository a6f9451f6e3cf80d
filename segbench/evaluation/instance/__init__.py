"""Instance scores: COCO matches to the 12 numbers."""
