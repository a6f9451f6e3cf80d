"""Panoptic counts against a loop over segments written from the paper, and known answers."""

from __future__ import annotations

import math
from fractions import Fraction

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from segbench.core.errors import ConfigError, DataError
from segbench.core.types import Category, CategoryTable
from segbench.evaluation.panoptic import panoptic_quality as panoptic
from segbench.evaluation.protocol import get_protocol

COCO = get_protocol("coco-panoptic")
TABLE = CategoryTable(
    (
        Category(7, "person", True, (0, 0, 0)),
        Category(3, "grass", False, (0, 0, 0)),
        Category(90, "cat", True, (0, 0, 0)),
    )
)


@st.composite
def scenes(draw):
    """One image: two maps built of rectangles, segments in any order, crowds and orphans."""
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    truth = _rectangles(draw, height, width, [1, 2, 3, 300, 70_000])
    moved = np.roll(truth, draw(st.integers(-1, 1)), axis=draw(st.integers(0, 1)))
    other = _rectangles(draw, height, width, [1, 5, 9, 2**24 - 1])
    prediction = np.where(other > 0, other, moved) if draw(st.booleans()) else other
    category = st.sampled_from(TABLE.category_ids)
    truth_segments = [
        {"id": i, "category_id": draw(category), "iscrowd": int(draw(st.integers(0, 4)) == 0)}
        for i in draw(st.permutations(_present(truth)))
        if draw(st.integers(0, 9))
    ]
    known = {s["id"]: s["category_id"] for s in truth_segments}
    predicted = [
        {
            "id": i,
            "category_id": known.get(i) if draw(st.booleans()) and i in known else draw(category),
        }
        for i in draw(st.permutations(_present(prediction)))
    ]
    return truth, prediction, truth_segments, predicted


def _rectangles(draw, height, width, ids):
    canvas = np.zeros((height, width), dtype=np.int32)
    for segment_id in draw(st.lists(st.sampled_from([0, *ids]), max_size=7)):
        y, x = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        canvas[y : y + draw(st.integers(1, 9)), x : x + draw(st.integers(1, 9))] = segment_id
    return canvas


def _present(ids):
    return [int(i) for i in np.unique(ids) if i]


def slow_counts(truth, prediction, truth_segments, predicted_segments):
    """Return {category: [exact IoUs, fp, fn]} from pixel masks of every pair of segments."""
    found = {c: [[], 0, 0] for c in TABLE.category_ids}
    void = truth == 0
    taken = set()
    for t in truth_segments:
        if t["iscrowd"]:
            continue
        mask = truth == t["id"]
        hit = False
        for p in predicted_segments:
            if p["category_id"] != t["category_id"]:
                continue
            guess = prediction == p["id"]
            both = int((mask & guess).sum())
            union = int((mask | (guess & ~void)).sum())
            if union and Fraction(both, union) > Fraction(1, 2):
                found[t["category_id"]][0].append((t["id"], p["id"], both, union))
                taken.add(p["id"])
                hit = True
        found[t["category_id"]][2] += not hit
    for p in predicted_segments:
        excuse = void.copy()
        for t in truth_segments:
            if t["iscrowd"] and t["category_id"] == p["category_id"]:
                excuse |= truth == t["id"]
        guess = prediction == p["id"]
        excused = 2 * int((guess & excuse).sum()) > int(guess.sum())
        found[p["category_id"]][1] += p["id"] not in taken and not excused
    return found


def run(scene, **options):
    truth, prediction, truth_segments, predicted = scene
    return panoptic.count(
        truth,
        prediction,
        truth_segments=truth_segments,
        predicted_segments=predicted,
        categories=TABLE,
        **options,
    )


@given(scenes())
@settings(max_examples=1000, deadline=None)
def test_equals_a_loop_over_pairs_of_segments(scene):
    rows = panoptic.scores(run(scene), COCO)["per_class"]
    for row, (pairs, fp, fn) in zip(rows, slow_counts(*scene).values(), strict=True):
        assert (row["tp"], row["fp"], row["fn"]) == (len(pairs), fp, fn)
        total = 0.0
        for _, _, both, union in sorted(pairs):
            total += both / union
        if pairs or fp or fn:
            weight = len(pairs) + fp / 2 + fn / 2
            assert (row["pq"], row["rq"]) == (total / weight, len(pairs) / weight)
        else:
            assert row["pq"] is row["sq"] is row["rq"] is None


@given(st.lists(scenes(), min_size=1, max_size=6), st.randoms())
@settings(max_examples=60, deadline=None)
def test_scores_do_not_depend_on_how_images_were_split(images, random):
    parts = [run(s, image_id=i, position=i) for i, s in enumerate(images)]
    in_order = panoptic.scores(panoptic.merge(parts), COCO)
    shuffled = random.sample(parts, len(parts))
    cut = random.randint(0, len(parts))
    shards = [shuffled[:cut], shuffled[cut:]]
    whole = panoptic.merge([panoptic.merge(shard) for shard in shards if shard])
    assert panoptic.scores(whole, COCO) == in_order
    alone = panoptic.image_scores(whole)
    assert alone == {i: panoptic.scores(part, COCO)["pq"] for i, part in enumerate(parts)}


@given(scenes())
@settings(max_examples=60, deadline=None)
def test_strict_mode_is_equal_where_the_truth_is_consistent(scene):
    truth, _, truth_segments, _ = scene
    for segment in truth_segments:
        segment["area"] = int((truth == segment["id"]).sum())
    crowds = [s["category_id"] for s in truth_segments if s["iscrowd"]]
    if len(crowds) == len(set(crowds)):
        expected = panoptic.scores(run(scene), COCO)
        assert panoptic.scores(run(scene, strict_compat=True), COCO) == expected


def _strip(*lengths_and_ids):
    return np.concatenate([np.full(n, i, dtype=np.int32) for n, i in lengths_and_ids])[None]


def _segments(*rows):
    return [dict(zip(("id", "category_id", "iscrowd"), row, strict=False)) for row in rows]


def test_worked_example():
    truth = _strip((10, 1), (10, 2), (10, 3), (10, 0))
    prediction = _strip((8, 1), (2, 0), (10, 2), (5, 3), (5, 4), (10, 5))
    found = panoptic.scores(
        run(
            (
                truth,
                prediction,
                _segments((1, 7, 0), (2, 3, 0), (3, 90, 0)),
                _segments((1, 7), (2, 3), (3, 90), (4, 90), (5, 7)),
            )
        ),
        COCO,
    )
    # person 8/10, grass 10/10; both halves of the cat have IoU 1/2, which is no match;
    # segment 5 lies on void and is excused.
    assert found["pq"] == (0.8 + 1.0 + 0.0) / 3
    assert (found["sq"], found["rq"], found["n"]) == ((0.8 + 1.0) / 3, 2 / 3, 3)
    assert (found["pq_things"], found["n_things"]) == (0.4, 2)
    assert (found["pq_stuff"], found["n_stuff"]) == (1.0, 1)
    counts = [(row["tp"], row["fp"], row["fn"]) for row in found["per_class"]]
    assert counts == [(1, 0, 0), (1, 0, 0), (0, 2, 1)]


@pytest.mark.fault(17)
def test_group_without_segments_has_no_value():
    ids = _strip((4, 1))
    found = panoptic.scores(run((ids, ids, _segments((1, 7, 0)), _segments((1, 7)))), COCO)
    assert (found["pq"], found["pq_things"], found["pq_stuff"]) == (1.0, 1.0, None)
    assert (found["n"], found["n_stuff"]) == (1, 0)


def test_every_crowd_excuses_but_only_the_last_in_strict_mode():
    truth = _strip((4, 1), (4, 2))
    prediction = _strip((4, 9), (4, 0))
    truth_segments = [{**s, "area": 4} for s in _segments((1, 7, 1), (2, 7, 1))]
    scene = (truth, prediction, truth_segments, _segments((9, 7)))
    assert panoptic.scores(run(scene), COCO)["n"] == 0
    strict = panoptic.scores(run(scene, strict_compat=True), COCO)
    assert strict["per_class"][0]["fp"] == 1


def test_wrong_areas_in_the_json_count_only_in_strict_mode():
    ids = _strip((4, 1))
    scene = (ids, ids, [{"id": 1, "category_id": 7, "iscrowd": 0, "area": 1}], _segments((1, 7)))
    assert panoptic.scores(run(scene), COCO)["pq"] == 1.0
    assert panoptic.scores(run(scene, strict_compat=True), COCO)["pq"] == 4.0


def test_orphan_pixels_neither_match_nor_excuse():
    truth, prediction = _strip((4, 8), (4, 0)), _strip((4, 1), (3, 1), (1, 0))
    found = panoptic.scores(run((truth, prediction, [], _segments((1, 7)))), COCO)
    assert found["per_class"][0]["fp"] == 1


GOOD = _strip((2, 1), (2, 2))


@pytest.mark.parametrize(
    ("truth_segments", "predicted", "message"),
    [
        ([(1, 7, 0)], [(1, 7)], r"prediction: 1 segment ids are in the PNG but not in the JSON"),
        ([(1, 7, 0)], [(1, 7), (2, 7), (5, 7)], r"in the JSON but not in the PNG, first \[5\]"),
        ([(1, 7, 0)], [(1, 7), (2, 8)], "prediction: segment 2 has the unknown category_id 8"),
        ([(1, 8, 0)], [(1, 7), (2, 7)], "truth: segment 1 has the unknown category_id 8"),
        ([(1, 7)], [(1, 7), (2, 7)], "truth: a segment has no 'iscrowd'"),
        ([(1, 7, 0)], [(1, 7), (1, 7), (2, 7)], "prediction: segment id 1 is repeated"),
        ([(0, 7, 0)], [(1, 7), (2, 7)], "truth: segment id 0 is repeated or not 1 to 16777215"),
        ([(1, 7, 0)], [(1,), (2, 7)], "prediction: a segment has no 'category_id'"),
    ],
)
@pytest.mark.fault(17)
def test_faults_are_named(truth_segments, predicted, message):
    scene = (GOOD, GOOD, _segments(*truth_segments), _segments(*predicted))
    with pytest.raises(DataError, match=f"image 139, .*{message}"):
        run(scene, image_id=139)


def test_another_size_is_refused():
    with pytest.raises(DataError, match=r"\(1, 4\).*found \(1, 5\)"):
        run((GOOD, _strip((5, 0)), [], []))


def test_a_protocol_of_another_task_is_refused():
    with pytest.raises(ConfigError, match="semantic, not panoptic"):
        panoptic.scores(run((GOOD, GOOD * 0, [], [])), get_protocol("semantic-pooled"))


def test_sums_run_in_file_order():
    """Sums of floats depend on their order; stored positions fix it, not the order of shards."""
    parts = []
    for position, (both, rest) in enumerate([(9, 1), (8, 3), (7, 4), (10, 3), (5, 4), (9, 7)]):
        truth, prediction = _strip((both, 1), (rest, 1)), _strip((both, 1), (rest, 0))
        scene = (truth, prediction, _segments((1, 7, 0)), _segments((1, 7)))
        parts.append(run(scene, image_id=position, position=position))
    naive = 0.0
    for both, rest in [(9, 1), (8, 3), (7, 4), (10, 3), (5, 4), (9, 7)]:
        naive += both / (both + rest)
    found = panoptic.scores(panoptic.merge(parts[::-1]), COCO)
    assert found["sq_things"] == naive / 6
    assert math.isclose(found["pq"], naive / 6)
