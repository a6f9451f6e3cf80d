"""Our networks give the outputs that their references gave with the same weights."""

from __future__ import annotations

import pytest
import torch

from tests.models.equality.stored import create, difference, read_all

STORED = read_all()


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", STORED)
def test_the_output_equals_the_stored_one_of_the_reference(name: str) -> None:
    stored = STORED[name]
    assert difference(create(stored), stored) <= 1e-10
