"""Counting over many images in parallel."""
