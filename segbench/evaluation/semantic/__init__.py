"""Semantic scores: confusion counts to mIoU, Dice and accuracies."""
