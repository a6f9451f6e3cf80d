"""Losses against PyTorch's own and against sums written out."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from segbench.layers.losses.criterion import LOSSES as BY_NAME
from segbench.layers.losses.criterion import Criterion
from segbench.layers.losses.pixel import cross_entropy, focal, ohem
from segbench.layers.losses.region import dice, jaccard, lovasz

LOSSES = [cross_entropy, focal, dice, jaccard, lovasz, partial(ohem, min_kept=7)]


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
    double = logits[:1, :, :3, :3].double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, target[:1, :3, :3]), double)


@pytest.mark.parametrize("loss", LOSSES)
def test_bf16_autocast_changes_nothing_but_the_logits(loss) -> None:
    logits, target = case(6, ignored=0.3)
    coarse = logits.bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(coarse, target)
    value.backward()
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(coarse.detach().float(), target))
    assert bool(torch.isfinite(coarse.grad).all()) and bool(coarse.grad.any())


@pytest.mark.parametrize("loss", LOSSES)
def test_a_perfect_prediction_costs_nothing(loss) -> None:
    _, target = case(7, ignored=0.3)
    right = 100 * functional.one_hot(target.where(target != 255, 0), 5).movedim(-1, 1).float()
    assert float(loss(right, target)) == pytest.approx(0, abs=1e-5)


def test_ohem_written_out() -> None:
    logits, target = case(8, ignored=0.3)
    probability = logits.softmax(1).numpy()
    certainty = sorted(
        probability[n, c, y, x] for (n, y, x), c in np.ndenumerate(target.numpy()) if c != 255
    )
    for threshold, min_kept in ((0.7, 0), (0.2, 3), (0.0, 11), (0.5, 20), (0.1, 1000), (0.1, 46)):
        kept = [p for i, p in enumerate(certainty) if p < threshold or i < min_kept]
        found = ohem(logits, target, threshold=threshold, min_kept=min_kept)
        assert float(found) == pytest.approx(-np.mean(np.log(kept)), rel=1e-5)


def test_ohem_divides_by_the_number_of_hard_pixels_whatever_their_weights() -> None:
    logits, target = case(8, ignored=0.3)
    weights = torch.full((5,), 3.0)
    torch.testing.assert_close(
        ohem(logits, target, min_kept=9, class_weights=weights),
        3 * ohem(logits, target, min_kept=9),
    )


def test_jaccard_written_out() -> None:
    logits, target = case(9, ignored=0.3)
    target[target == 4] = 0
    probability, truth = logits.softmax(1).numpy(), target.numpy()
    counted, scores, weights = truth != 255, [], np.array([1.0, 2.0, 0.5, 3.0])
    for c in range(4):
        p, t = probability[:, c][counted], (truth == c)[counted]
        scores.append(((p * t).sum() + 2) / (p.sum() + t.sum() - (p * t).sum() + 2))
    found = jaccard(logits, target, smooth=2.0, class_weights=torch.tensor([*weights, 9.0]))
    assert float(found) == pytest.approx(1 - np.average(scores, weights=weights), rel=1e-5)


def lovasz_by_definition(probability: np.ndarray, truth: np.ndarray) -> float:
    """Equation 6 of the paper: errors times the growth of the loss of the set of the largest."""
    errors = np.abs(truth - probability)
    order, total, wrong = np.argsort(-errors), 0.0, np.zeros(len(truth), dtype=bool)
    losses = [0.0]
    for pixel in order:
        wrong[pixel] = True
        predicted = np.where(wrong, ~truth, truth)
        losses.append(1 - (predicted & truth).sum() / (predicted | truth).sum())
    for pixel, (before, after) in zip(order, pairwise(losses), strict=True):
        total += errors[pixel] * (after - before)
    return total


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**16), st.floats(0, 0.9))
def test_lovasz_is_its_definition(seed, ignored) -> None:
    logits, target = case(seed, ignored=ignored)
    counted = (target != 255).numpy()
    if not counted.any():
        return
    probability, truth = logits.double().softmax(1).numpy(), target.numpy()
    values = [
        lovasz_by_definition(probability[:, c][counted], (truth == c)[counted])
        for c in np.unique(truth[counted])
    ]
    assert float(lovasz(logits.double(), target)) == pytest.approx(np.mean(values), rel=1e-9)


def test_lovasz_of_a_hard_prediction_is_one_minus_miou() -> None:
    _, target = case(10, ignored=0.2)
    guess = target.where(target != 255, 1).roll(2, dims=2)
    logits = 200 * functional.one_hot(guess, 5).movedim(-1, 1).float()
    guess, truth = guess[target != 255], target[target != 255]
    ious = [
        float(((guess == c) & (truth == c)).sum() / ((guess == c) | (truth == c)).sum())
        for c in range(5)
    ]
    assert float(lovasz(logits, target)) == pytest.approx(1 - np.mean(ious), abs=1e-6)


@pytest.mark.parametrize("name", BY_NAME)
def test_criterion_adds_cross_entropy_and_takes_its_own_settings(name) -> None:
    logits, target = case(11, ignored=0.2)
    weights = torch.linspace(0.5, 2, 5)
    function, keys = BY_NAME[name]
    settings = {"threshold": 0.4, "min_kept": 5, "gamma": 1.0, "smooth": 3.0}
    expected = function(
        logits, target, class_weights=weights, **{key: settings[key] for key in keys}
    )
    found = Criterion(name, **settings)(logits, target, class_weights=weights)
    torch.testing.assert_close(found, expected)
    both = Criterion(name, **settings, cross_entropy=0.5)(logits, target, class_weights=weights)
    rest = cross_entropy(logits, target, class_weights=weights)
    torch.testing.assert_close(both, expected + 0.5 * rest)


@pytest.mark.parametrize("loss", [cross_entropy, focal, partial(ohem, min_kept=1000)])
def test_a_pixel_of_weight_two_is_two_pixels(loss) -> None:
    logits, target = case(12, ignored=0.2)
    weights = torch.ones(2, 4, 6)
    weights[1] = 2
    doubled = loss(torch.cat([logits, logits[1:]]), torch.cat([target, target[1:]]))
    found = loss(logits, target, pixel_weights=weights)
    if loss not in (cross_entropy, focal):
        found = found * (target != 255).sum() / ((target != 255) * weights).sum()
    torch.testing.assert_close(found, doubled)


def test_labels_beyond_the_classes_are_an_error() -> None:
    with pytest.raises((IndexError, RuntimeError)):
        cross_entropy(torch.randn(1, 3, 1, 1), torch.tensor([[[7]]]))
