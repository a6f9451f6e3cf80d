"""What every page of the report shares: the table, the environment, the frame, the logs."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2

from segbench import __version__
from segbench.core.files import write_json, write_text
from segbench.evaluation.metrics import TASK_TITLES, primary
from segbench.formats.tidy_table import tidy_csv
from segbench.report.assets import report_folder
from segbench.report.board import Board, build_boards
from segbench.report.charts import specs as charts
from segbench.report.clean import Cleaner
from segbench.report.oracle_table import oracle_words
from segbench.report.paths import inside_file
from segbench.report.pictures.galleries import Galleries
from segbench.report.rows import (
    STATUS_WORDS,
    Cell,
    paper_text,
    reason_of,
    slug,
    status_of,
    train_text,
)
from segbench.report.runs import LOG_BYTES, Log, Run, build_runs, headline, read_log, run_slug


@dataclass(frozen=True)
class Site:
    """One rendering: the table, where its files are and where the pages go."""

    table: Mapping[str, Any]
    results: Path
    out: Path
    gallery_images: int
    tolerance: float
    cleaner: Cleaner

    @cached_property
    def boards(self) -> list[Board]:
        return build_boards(self.table, tolerance=self.tolerance)

    @cached_property
    def runs(self) -> dict[str, Run]:
        return {run.slug: run for run in build_runs(self.table)}

    @cached_property
    def logs(self) -> dict[str, list[Log]]:
        """The logs of every run by slug, copied into the site."""
        return {name: self._copy_logs(run) for name, run in self.runs.items()}

    @cached_property
    def galleries(self) -> Galleries:
        return Galleries(self.results, self.out, self.gallery_images)

    @cached_property
    def environment(self) -> jinja2.Environment:
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(report_folder() / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.globals |= {
            "titles": TASK_TITLES,
            "words": STATUS_WORDS,
            "log_kb": LOG_BYTES // 1000,
            "status_of": status_of,
            "reason_of": reason_of,
            "train_text": train_text,
            "paper_text": paper_text,
            "oracle_words": oracle_words,
            "headline": headline,
            "primary": primary,
            "tolerance": self.tolerance,
            "href": lambda cell: f"runs/{run_slug(cell)}.html",
            "logs": lambda cell: self._logs_of(cell),
            "site": self._frame(),
        }
        return environment

    def _frame(self) -> dict[str, Any]:
        names = dict.fromkeys(board.dataset for board in self.boards)
        nav = [
            {"href": f"index.html#{dataset_id(n)}", "text": self.dataset(n)["title"]} for n in names
        ]
        title = str(self.table.get("title") or "segbench")
        return {"title": title, "version": __version__, "nav": nav}

    def page(self, template: str, path: str, **context: Any) -> None:
        """Render a template to a path relative to the site."""
        root = "../" * path.count("/")
        text = self.environment.get_template(template).render(root=root, **context)
        write_text(self.out / path, text)

    def dataset(self, name: str) -> dict[str, Any]:
        """Return what the pages say of a dataset, also of one that was never prepared."""
        known = self.table["datasets"].get(name) or {}
        kinds = {bool(c["isthing"]) for c in known.get("categories", ())}
        title = str(known.get("display_name") or name)
        page = f"datasets/{slug(name)}.html" if known.get("categories") else ""
        return {
            **known,
            "name": name,
            "title": title,
            "id": dataset_id(name),
            "page": page,
            "mixed": len(kinds) == 2,
        }

    def assets(self) -> None:
        """Write style sheet, scripts and the table itself, without paths of this machine."""
        target = self.out / "assets"
        target.mkdir(parents=True)
        for path in sorted((report_folder() / "static").iterdir()):
            shutil.copyfile(path, target / path.name)
        write_text(target / "vega.js", charts.script())
        shared = {key: value for key, value in self.table.items() if key != "results"}
        write_json(self.out / "table.json", shared)
        write_text(self.out / "table.csv", tidy_csv(self.table))

    def _copy_logs(self, run: Run) -> list[Log]:
        names = dict.fromkeys(name for cell in run.cells for name in cell.get("logs", ()))
        logs = []
        for name in names:
            href = f"../logs/{run.slug}/{slug(*Path(name).parts)}.txt"
            path = inside_file(self.results, name)
            log = None if path is None else read_log(path, name, href)
            if log is not None:
                log = replace(log, text=self.cleaner.text(log.text))
                write_text(self.out / "runs" / href, log.text)
                logs.append(log)
        return logs

    def _logs_of(self, cell: Cell) -> list[dict[str, str]]:
        wanted = cell.get("logs", ())
        found = [log for log in self.logs[run_slug(cell)] if log.name in wanted]
        return [{"name": log.name, "href": log.href.removeprefix("../")} for log in found]


def dataset_id(dataset: str) -> str:
    """Return the anchor of a dataset on the index page."""
    return f"data-{slug(dataset)}"
