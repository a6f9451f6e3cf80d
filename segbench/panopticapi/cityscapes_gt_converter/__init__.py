"""Cityscapes ground truth to COCO panoptic."""
