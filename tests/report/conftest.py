import json
import os
import shutil
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from segbench.report.render import render_report
from tests.report import fabricated_results


@pytest.fixture(scope="session")
def results(tmp_path_factory):
    """A results folder with made-up predictions and true scores; do not write into it."""
    root = tmp_path_factory.mktemp("results")
    fabricated_results.build(root)
    return root


@pytest.fixture
def table(results):
    """The table of the results folder, for a test to change."""
    return json.loads((results / "table.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def site(results, tmp_path_factory):
    """The rendered report, in a folder whose path has spaces and other letters."""
    out = tmp_path_factory.mktemp("out") / "my séjour #1 100%"
    render_report(results / "table.json", out)
    return out


@pytest.fixture(scope="session")
def chromium():
    path = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if path is None:
        message = "no Chromium found; install the package chromium to check the report in a browser"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, site):
    """Open pages of the site; what the console says and what is fetched is kept."""

    @contextmanager
    def open_page(path, *, width=1280, scheme="light", scripts=True, hash_="", root=None):
        context = chromium.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
            java_script_enabled=scripts,
            offline=True,
        )
        page = context.new_page()
        seen = SimpleNamespace(page=page, console=[], requests=[])
        page.on("console", lambda message: seen.console.append(message.text))
        page.on("pageerror", lambda error: seen.console.append(str(error)))
        page.on("request", lambda request: seen.requests.append(request.url))
        page.goto(((root or site) / path).as_uri() + hash_)
        yield seen
        context.close()

    return open_page
