"""Boundaries of regions: geometry only."""
