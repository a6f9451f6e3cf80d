"""Pascal Context for the form of 59 classes: the archives of both forms are the same."""

from tests.datasets.miniatures._pascal_context import build

__all__ = ["build"]
