"""Scores from prediction files: counts per image first, ratios last, each under a named protocol.

    protocol          what a score means, as data
    semantic          confusion counts -> mIoU, Dice, accuracies
    panoptic          matched segments -> PQ, SQ, RQ; ``panoptic_files`` reads COCO panoptic files
    instance          COCO matches -> the 12 numbers; ``coco_files`` checks the files first
    boundary          boundaries of all regions of a map; ``boundary_semantic``,
                      ``boundary_panoptic``, ``boundary_instance`` count them, on request
    counts            one ``counts.npz`` with the counts of every image
    weighted          scores of resampled images, many at once
    folder            a whole prediction folder against a prepared dataset

Nothing here imports torch.
"""
