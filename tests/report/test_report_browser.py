import csv

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.report import fabricated_results

pytestmark = pytest.mark.browser
SEMANTIC = "shapes__semantic__semantic-pooled"
TABLE = f"#t-{SEMANTIC}"
PAGES = {
    "index": "index.html",
    "run": "runs/shapes__panoptic_fpn__seed0.html",
    "many classes": "runs/many-classes__wide__seed0.html",
    "failed run": "runs/shapes__broken__seed0.html",
    "gallery": "gallery/shapes__hostile__seed0-semantic.html",
    "compare": f"compare/{SEMANTIC}.html",
    "dataset": "datasets/shapes.html",
    "many dataset": "datasets/many-classes.html",
}
MODES = {"light": (1280, "light"), "dark": (1280, "dark"), "phone": (375, "light")}
VISITS = [
    *((kind, mode) for kind in ("index", "run", "gallery", "compare", "dataset") for mode in MODES),
    ("many classes", "light"),
    ("many dataset", "dark"),
    ("failed run", "dark"),
]
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
AXE = {"runOnly": {"type": "tag", "values": TAGS}, "resultTypes": ["violations"], "preload": False}


def settle(page):
    """Scroll through the page so that everything lazy is loaded, and wait for the charts."""
    page.evaluate("document.querySelectorAll('img').forEach(img => { img.loading = 'eager'; })")
    for chart in page.locator("[data-chart]:visible").all():
        chart.scroll_into_view_if_needed()
    page.wait_for_function(
        "[...document.querySelectorAll('[data-chart]')]"
        ".every(c => c.dataset.ready || !c.checkVisibility())"
    )
    page.wait_for_function("[...document.images].every(img => img.complete)")
    page.evaluate("scrollTo(0, 0)")


def names(page):
    rows = page.locator(f"{TABLE} tbody tr:visible").all()
    return [row.get_attribute("data-name") for row in rows]


@pytest.mark.parametrize(("kind", "mode"), VISITS)
def test_pages_are_quiet_offline_complete_and_accessible(visit, kind, mode):
    width, scheme = MODES[mode]
    with visit(PAGES[kind], width=width, scheme=scheme) as seen:
        settle(seen.page)
        broken = "[...document.images].filter(i => !i.hidden && !i.naturalWidth).map(i => i.src)"
        assert seen.page.evaluate(broken) == []
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
        assert [u for u in seen.requests if not u.startswith(("file:", "data:", "blob:"))] == []
        assert seen.page.evaluate("document.querySelectorAll('*').length") < 5000
        violations = Axe().run(seen.page, options=AXE).response["violations"]
        found = [(v["id"], [n["target"] for n in v["nodes"]][:3]) for v in violations]
        assert found == []
        assert seen.console == []


def test_sorting_keeps_missing_last_and_tells_assistive_technology(visit):
    with visit("index.html") as seen:
        page = seen.page
        before = names(page)
        head = page.locator(f"{TABLE} th[data-key=params]")
        head.get_by_role("button").click()
        assert head.get_attribute("aria-sort") == "ascending"
        cheap = names(page)
        assert cheap[:2] == ["Twin [twin_a]", "Twin [twin_b]"] and cheap != before
        assert cheap[-3:] == ["Broken net", "Later net", "oracle"]
        head.get_by_role("button").press("Enter")
        assert head.get_attribute("aria-sort") == "descending"
        assert names(page)[0] == '<script>alert(1)</script> & "Ünï" 50%'
        assert names(page)[-3:] == cheap[-3:]


def test_search_counts_rows_and_can_be_cleared(visit):
    with visit("index.html") as seen:
        page = seen.page
        bar = page.locator(f"[data-for={SEMANTIC}]")
        bar.get_by_role("searchbox").fill("twin  TINY")
        assert names(page) == []
        bar.get_by_role("searchbox").fill("TWIN")
        assert names(page) == ["Twin [twin_a]", "Twin [twin_b]"]
        assert bar.locator(".said").inner_text() == "2 rows"
        bar.get_by_role("searchbox").fill("twin tied")
        assert names(page) == []
        bar.get_by_role("searchbox").fill("no such thing")
        assert names(page) == []
        page.locator(f"#{SEMANTIC}").get_by_role("button", name="Clear the search").click()
        assert len(names(page)) == 9


def test_the_classes_of_a_dataset_can_be_searched_and_sorted(visit):
    def shown(page):
        rows = page.locator("[data-board=classes] tbody tr:visible").all()
        return [row.get_attribute("data-name") for row in rows]

    with visit(PAGES["many dataset"]) as seen:
        page = seen.page
        everything = shown(page)
        bar = page.locator("[data-for=classes]")
        page.locator("th[data-key=id]").get_by_role("button").click()
        assert shown(page) == [f"class {i}" for i in range(36)] != everything
        bar.get_by_role("button", name="train", exact=True).click()
        assert page.locator("[data-board] thead tr:last-child th:visible").count() == 8
    with visit(PAGES["dataset"]) as seen:
        seen.page.get_by_role("searchbox").fill("RING thing")
        assert shown(seen.page) == ["ring & <i>co</i>"]
        assert seen.page.locator(".said").inner_text() == "1 row"
    with visit(PAGES["many dataset"], scripts=False) as seen:
        assert shown(seen.page) == everything
        assert seen.page.locator(".toolbar:visible").count() == 0


def test_a_view_is_an_address(visit):
    def view(page):
        return [
            names(page),
            page.locator(f"{TABLE} thead tr:last-child th:visible").all_inner_texts(),
            page.locator(f"{TABLE} [aria-sort]").get_attribute("data-key"),
            page.locator(f"input[name=x-{SEMANTIC}]:checked").get_attribute("value"),
            page.locator(f"[data-for={SEMANTIC}] [aria-pressed=false]").all_inner_texts(),
        ]

    with visit("index.html") as seen:
        page = seen.page
        page.locator(f"{TABLE} th[data-key=fwiou]").get_by_role("button").click()
        bar = page.locator(f"[data-for={SEMANTIC}]")
        for group in ("Cost", "Scores"):
            bar.get_by_role("button", name=group, exact=True).click()
        bar.get_by_role("searchbox").fill("a & e")
        bar.get_by_role("searchbox").fill("n")
        page.locator(f"input[name=x-{SEMANTIC}][value=gmacs]").check()
        expected, address = view(page), page.url
        assert expected[1][2] == "mIoU" and len(expected[1]) == 8
    assert "#" in address
    with visit("index.html", hash_="#" + address.split("#")[1]) as seen:
        assert view(seen.page) == expected
        assert seen.page.url == address


def test_without_scripts_every_row_and_number_is_there(visit):
    with visit("index.html", scripts=False) as seen:
        page = seen.page
        assert len(names(page)) == 9
        assert "87.5" in page.locator(f"{TABLE} tbody tr").first.inner_text()
        assert page.locator(".toolbar:visible, .theme:visible").count() == 0
        assert page.locator("[data-chart] img:visible").count() > 3
        page.locator(f"input[name=x-{SEMANTIC}][value=gmacs]").check()
        assert page.locator(f"#{SEMANTIC} [data-axis=gmacs]").is_visible()
        assert not page.locator(f"#{SEMANTIC} [data-axis=params]").is_visible()
    with visit(PAGES["compare"], scripts=False) as seen:
        assert seen.page.locator(".contact tbody tr").count() == 6
        assert not seen.page.locator(".bench").is_visible()
    with visit(PAGES["gallery"], scripts=False) as seen:
        assert seen.page.locator(".gallery .tile:visible").count() == 24


def test_a_shared_rank_sorts_and_is_exported_without_its_range(visit):
    board = "shapes__instance__coco-instances"
    with visit("index.html", width=375) as seen:
        page = seen.page
        ranks = page.locator(f"#t-{board} tbody:first-of-type td.rank")
        assert [text.split() for text in ranks.all_inner_texts()][2] == ["3"]
        page.locator(f"#t-{board} th[data-key=rank]").get_by_role("button").click()
        assert ranks.first.get_attribute("data-v") == "3"
        page.evaluate(
            "navigator.clipboard.writeText = t => { window.copied = t; return Promise.resolve(); }"
        )
        page.locator(f"[data-for={board}]").get_by_role("button", name="CSV").click()
        lines = list(csv.reader(page.evaluate("window.copied").splitlines()))
        assert [line[0] for line in lines] == [
            "Rank", "3", "1=", "1=", "oracle", "oracle", "control",
        ]  # fmt: skip
        assert all(float(line[2]) >= 0 for line in lines[1:])


def test_the_theme_is_kept_from_page_to_page(visit):
    background = "getComputedStyle(document.body).backgroundColor"
    with visit("index.html") as seen:
        light = seen.page.evaluate(background)
        seen.page.get_by_role("button", name="Dark theme").click()
        dark = seen.page.evaluate(background)
        assert dark != light
        seen.page.locator(f"{TABLE} th.model a").first.click()
        seen.page.wait_for_url("**/runs/*.html", wait_until="load")
        assert seen.page.evaluate(background) == dark
        assert seen.page.get_by_role("button", name="Light theme").is_visible()


def test_the_viewer_works_by_keyboard_and_address(visit):
    with visit(PAGES["gallery"]) as seen:
        page = seen.page
        layer = page.locator(".stage-picture .layer")
        first = page.locator(".stage-title").inner_text()
        page.keyboard.press("ArrowRight")
        assert "(2 of 6" in page.locator(".stage-title").inner_text()
        page.keyboard.press("4")
        assert layer.get_attribute("src").endswith("-error.webp")
        page.get_by_role("slider").focus()
        page.keyboard.press("Home")
        assert layer.evaluate("e => getComputedStyle(e).opacity") == "0"
        assert page.locator(".stage-title").inner_text() != first
        title, address = page.locator(".stage-title").inner_text(), page.url
    with visit(PAGES["gallery"], hash_="#" + address.split("#")[1]) as seen:
        assert seen.page.locator(".stage-title").inner_text() == title
        assert seen.page.get_by_role("slider").input_value() == "0"
        assert seen.page.get_by_role("radio", name="Error").is_checked()


def test_models_stand_side_by_side(visit):
    with visit(PAGES["compare"]) as seen:
        page = seen.page
        captions = page.locator(".panels figcaption")
        assert [c.split()[0] for c in captions.all_inner_texts()] == [
            "Truth",
            "U-Net",
            "Panoptic",
            "FCN",
        ]
        page.get_by_role("checkbox", name="oracle").check()
        assert (
            captions.count() == 5
            and page.get_by_role("checkbox", name="Twin [twin_a]").is_disabled()
        )
        for name in ("U-Net", "Panoptic FPN"):
            page.get_by_role("checkbox", name=name).uncheck()
        assert page.get_by_role("checkbox", name="oracle").is_disabled()
        page.get_by_role("button", name="Next").click()
        page.get_by_role("radio", name="Error").check(force=True)
        shown, address = captions.all_inner_texts(), page.url
        assert "oracle mIoU 100.0" in shown
    with visit(PAGES["compare"], hash_="#" + address.split("#")[1]) as seen:
        assert seen.page.locator(".panels figcaption").all_inner_texts() == shown
        assert seen.page.get_by_role("combobox").evaluate("s => s.selectedIndex") == 1


def test_export_writes_what_is_on_the_screen(visit, chromium):
    with visit("index.html") as seen:
        page = seen.page
        page.evaluate(
            "navigator.clipboard.writeText = t => { window.copied = t; return Promise.resolve(); }"
        )
        bar = page.locator(f"[data-for={SEMANTIC}]")
        bar.get_by_role("searchbox").fill("oracle")
        bar.get_by_role("button", name="Method").click()
        bar.get_by_role("button", name="CSV").click()
        lines = page.evaluate("window.copied").splitlines()
        assert lines[0].startswith("Rank,Model,mIoU,Dice") and "Paper" not in lines[0]
        assert len(lines) == 2 and lines[1].startswith("control,oracle,100.0,100.0")
        bar.get_by_role("searchbox").fill("alert")
        bar.get_by_role("button", name="LaTeX").click()
        assert '\\& "Ünï" 50\\%' in page.evaluate("window.copied")


@pytest.mark.fault(28)
def test_hundreds_of_rows_stay_quick_and_small(visit, results, tmp_path):
    import json

    from segbench.report.render import render_report

    table = json.loads((results / "table.json").read_text(encoding="utf-8"))
    scored = next(c for c in table["cells"] if c["experiment"] == "fcn")
    bare = {**scored, "logs": [], "run_folder": "none"}
    table["cells"] = [
        fabricated_results.cell_named(bare, f"net_{i}", f"Net {i}") for i in range(200)
    ]
    (tmp_path / "table.json").write_text(json.dumps(table), encoding="utf-8")
    out = render_report(tmp_path / "table.json", tmp_path / "out").parent
    with visit("index.html", root=out) as seen:
        assert len(names(seen.page)) == 200
        assert (out / "index.html").stat().st_size < 1_500_000
        seen.page.locator(f"{TABLE} th[data-key=miou]").get_by_role("button").click()
        assert seen.console == []
