import itertools
import json

from hypothesis import given
from hypothesis import strategies as st

from segbench.report.charts import labels as chart_labels
from segbench.report.charts import specs as charts

points = st.lists(
    st.tuples(st.integers(1, 50), st.integers(0, 100)).map(
        lambda p: charts.Point(f"m{p}", float(p[1]), float(p[0]), "run.html", "label")
    ),
    max_size=12,
)


def dominated(point, others):
    return any(
        o.cost <= point.cost
        and o.score >= point.score
        and (o.cost, o.score) != (point.cost, point.score)
        for o in others
    )


@given(points)
def test_the_front_holds_exactly_the_points_nobody_beats(found):
    kept = {id(p) for p in charts.front(found)}
    assert kept == {id(p) for p in found if not dominated(p, found)}


@given(
    st.lists(
        st.tuples(st.integers(0, 20), st.integers(0, 20), st.text("abc", max_size=9)),
        min_size=1,
        max_size=15,
    )
)
def test_labels_do_not_cover_each_other(found):
    placed = chart_labels.place([(float(x), float(y), name) for x, y, name in found])
    pixels = chart_labels._to_pixels([(float(x), float(y)) for x, y, _ in found])
    boxes = [
        chart_labels._box(pixel, label["shown"], label)
        for pixel, label in zip(pixels, placed, strict=True)
        if label["shown"]
    ]
    assert not any(chart_labels._overlap(a, b) for a, b in itertools.combinations(boxes, 2))


def test_a_long_log_is_averaged_over_bins():
    log = [{"iteration": i + 1, "loss": float(i)} for i in range(1000)]
    binned = charts.binned(log, limit=100)
    assert len(binned) == 100 and binned[-1]["iteration"] == 1000
    assert binned[0]["loss"] == sum(range(10)) / 10
    assert charts.binned([{"iteration": 1, "loss": None}, {"iteration": 2}]) == []


def test_specifications_are_json_and_the_same_every_time():
    found = [
        charts.Point("a", 50.0, 1e6, "a.html", "a"),
        charts.Point("<b>", 60.0, 2e6, "b.html", "b"),
    ]
    series = {"a": [{"iteration": 1, "loss": 2.0}, {"iteration": 2, "loss": 1.0}]}
    makers = (
        lambda: charts.pareto(found, x_title="x", y_title="y"),
        lambda: charts.curves(series),
        lambda: charts.heat_map([("a", "b", 0.5)], ["a", "b"]),
    )
    for make in makers:
        assert json.dumps(make()) == json.dumps(make())
        assert charts.static_svg(make()) == charts.static_svg(make())


def test_the_static_twin_follows_both_themes_and_fetches_nothing():
    found = [
        charts.Point("a", 50.0, 1e6, "a.html", "a"),
        charts.Point("<b>", 60.0, 2e6, "b.html", "b"),
    ]
    svg = charts.static_svg(charts.pareto(found, x_title="x", y_title="y"))
    assert "prefers-color-scheme:dark" in svg and "<b>" not in svg
    for light, dark in charts.THEME.values():
        assert light in svg and dark in svg
        assert svg.count(f'"{light}"') == 0
    assert "src=" not in svg and "@import" not in svg and "url(http" not in svg
