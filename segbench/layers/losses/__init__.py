"""Losses on logits and label maps.

Every loss ignores label 255, is 0 with a zero gradient where every pixel is ignored, and is
computed in float32 (float64 of float64) whatever the precision of the network.
"""
