"""Losses against PyTorch's own and against sums written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from segbench.losses import cross_entropy, dice, focal

LOSSES = [cross_entropy, focal, dice]


def case(seed: int, *, ignored: float) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, 5, 4, 6, generator=generator)
    target = torch.randint(0, 5, (2, 4, 6), generator=generator)
    target[torch.rand(2, 4, 6, generator=generator) < ignored] = 255
    return logits, target


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**16), st.floats(0, 0.9), st.booleans())
def test_cross_entropy_is_pytorchs(seed, ignored, weighted) -> None:
    logits, target = case(seed, ignored=ignored)
    if bool((target == 255).all()):
        return
    weights = torch.linspace(0.3, 2.0, 5) if weighted else None
    expected = functional.cross_entropy(logits, target, weights, ignore_index=255)
    torch.testing.assert_close(cross_entropy(logits, target, class_weights=weights), expected)


def test_focal_without_focus_is_cross_entropy() -> None:
    logits, target = case(1, ignored=0.2)
    torch.testing.assert_close(focal(logits, target, gamma=0.0), cross_entropy(logits, target))


def test_focal_written_out() -> None:
    logits, target = case(2, ignored=0.3)
    probability = logits.softmax(1).numpy()
    terms = [
        (1 - probability[n, c, y, x]) ** 2 * -np.log(probability[n, c, y, x])
        for (n, y, x), c in np.ndenumerate(target.numpy())
        if c != 255
    ]
    assert float(focal(logits, target)) == pytest.approx(np.mean(terms), rel=1e-5)


def test_dice_written_out() -> None:
    logits, target = case(3, ignored=0.3)
    target[target == 4] = 0
    probability, truth = logits.softmax(1).numpy(), target.numpy()
    counted = truth != 255
    scores = []
    for c in range(4):
        p, t = probability[:, c][counted], (truth == c)[counted]
        scores.append((2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1))
    assert float(dice(logits, target)) == pytest.approx(1 - np.mean(scores), rel=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_ignored_pixels_do_not_matter(loss) -> None:
    logits, target = case(4, ignored=0.5)
    changed = torch.where((target == 255)[:, None], logits + 7 * torch.rand_like(logits), logits)
    torch.testing.assert_close(loss(changed, target), loss(logits, target))


@pytest.mark.parametrize("loss", LOSSES)
def test_all_ignored_is_zero_with_a_zero_gradient(loss) -> None:
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    value = loss(logits, torch.full((1, 2, 2), 255))
    value.backward()
    assert value.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_is_that_of_finite_differences(loss) -> None:
    logits, target = case(5, ignored=0.2)
    double = logits[:1, :, :2, :2].double().requires_grad_()
    value = loss(double, target[:1, :2, :2])
    value.backward()
    step = torch.zeros_like(double)
    step[0, 1, 1, 0] = 1e-2
    with torch.no_grad():
        high, low = loss(double + step, target[:1, :2, :2]), loss(double - step, target[:1, :2, :2])
    assert float(double.grad[0, 1, 1, 0]) == pytest.approx(float(high - low) / 2e-2, abs=1e-4)


def test_labels_beyond_the_classes_are_an_error() -> None:
    with pytest.raises((IndexError, RuntimeError)):
        cross_entropy(torch.randn(1, 3, 1, 1), torch.tensor([[[7]]]))
