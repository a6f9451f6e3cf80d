"""The toy networks and images of the tests of training."""

from tests.training.conftest import _toy_models, model_folder, toys

__all__ = ["_toy_models", "model_folder", "toys"]
