"""Scores by Cityscapes' own rules and file forms."""
