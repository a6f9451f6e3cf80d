"""Panoptic scores: matched segments to PQ, SQ and RQ."""
