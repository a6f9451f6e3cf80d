"""Converters between COCO panoptic, detection, semantic and two-channel files."""
