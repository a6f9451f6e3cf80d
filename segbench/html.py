"""The report: a folder of static pages that opens from disk, made of ``table.json``.

Pages hold every number as HTML; scripts add sorting, search, charts and the viewer. The
site is built beside ``out`` and then swapped in, so a killed render leaves the old site.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2

from segbench import __version__, charts
from segbench.errors import DataError
from segbench.evaluation.protocol import Protocol, protocols
from segbench.formats import read_json, write_json, write_text
from segbench.report_board import (
    STATUS_WORDS,
    Board,
    Cell,
    build_boards,
    model_entry,
    reason_of,
    slug,
    status_of,
    train_text,
)
from segbench.report_figures import Figures, board_curves, heat_map, pareto_axes, run_curve
from segbench.report_media import Galleries, Gallery
from segbench.report_metrics import COSTS, IMAGE_SCORES, MISSING, TASK_TITLES, primary
from segbench.report_runs import (
    LOG_BYTES,
    Log,
    Run,
    build_runs,
    class_table,
    confusion_of,
    headline,
    provenance_rows,
    read_log,
    recipe_rows,
    run_slug,
    score_rows,
)

SCHEMA = 1
PAGE_IMAGES = 60
PREVIEW_IMAGES = 6
COMPARE_COLUMNS = 5


def render_report(
    table_json: Path,
    out: Path,
    *,
    results: Path | None = None,
    gallery_images: int | None = None,
    tolerance: float = 0.0,
) -> Path:
    """Render the report of a table; the same inputs give the same bytes.

    Args:
        table_json: What ``segbench collect`` wrote.
        out: Folder of the site; an older site there is replaced whole.
        results: Folder the table's paths are relative to; None takes the table's folder.
        gallery_images: Images of each run, worst first; None takes what the table says.
        tolerance: Fraction by which two scores may differ and still tie.

    Returns:
        The path of ``index.html``.

    Raises:
        DataError: The table is missing, broken or of another schema.
    """
    table = _read_table(Path(table_json))
    out = Path(out)
    building = out.with_name(f".{out.name}.building")
    _recover(out)
    shutil.rmtree(building, ignore_errors=True)
    limit = int(table.get("gallery_images", 24)) if gallery_images is None else gallery_images
    root = _results_folder(Path(table_json), table, results)
    Site(table, root, building, limit, tolerance).write(Path(table_json))
    _swap(building, out)
    return out / "index.html"


def _read_table(path: Path) -> dict[str, Any]:
    table = read_json(path)
    if not isinstance(table, dict) or table.get("schema") != SCHEMA:
        found = table.get("schema") if isinstance(table, dict) else type(table).__name__
        raise DataError(
            f"{path}: expected a table of schema {SCHEMA}, found {found}",
            fix="run `segbench collect` with this version of segbench",
        )
    return table


def _results_folder(path: Path, table: Mapping[str, Any], results: Path | None) -> Path:
    if results is not None:
        return Path(results)
    stated = Path(str(table.get("results", "")))
    return path.parent if (path.parent / "data").is_dir() or not stated.is_dir() else stated


def _old(out: Path) -> Path:
    return out.with_name(f".{out.name}.old")


def _recover(out: Path) -> None:
    """Put back a site whose swap was cut off between its two renames."""
    if _old(out).exists() and not out.exists():
        _old(out).rename(out)


def _swap(building: Path, out: Path) -> None:
    shutil.rmtree(_old(out), ignore_errors=True)
    if out.exists():
        out.rename(_old(out))
    building.rename(out)
    shutil.rmtree(_old(out), ignore_errors=True)


def report_files() -> Path:
    """Return the folder of templates and static files: in the wheel or in the checkout."""
    installed = Path(__file__).parent / "_report"
    return installed if installed.is_dir() else Path(__file__).parents[1] / "report"


@dataclass(frozen=True)
class Site:
    """One rendering: the table, where its files are and where the pages go."""

    table: Mapping[str, Any]
    results: Path
    out: Path
    gallery_images: int
    tolerance: float

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
            loader=jinja2.FileSystemLoader(report_files() / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.globals |= {
            "titles": TASK_TITLES,
            "words": STATUS_WORDS,
            "costs": COSTS,
            "log_kb": LOG_BYTES // 1000,
            "status_of": status_of,
            "reason_of": reason_of,
            "train_text": train_text,
            "headline": headline,
            "primary": primary,
            "tolerance": self.tolerance,
            "href": lambda cell: f"runs/{run_slug(cell)}.html",
            "logs": lambda cell: self._logs_of(cell, "runs/"),
            "site": self._frame(),
        }
        return environment

    def _frame(self) -> dict[str, Any]:
        names = dict.fromkeys(board.dataset for board in self.boards)
        nav = [{"href": f"index.html#{_id(n)}", "text": self.dataset(n)["title"]} for n in names]
        title = str(self.table.get("title") or "segbench")
        csv = (self.results / "table.csv").is_file()
        return {"title": title, "version": __version__, "nav": nav, "csv": csv}

    def write(self, table_json: Path) -> None:
        """Write every file of the site."""
        self._assets(table_json)
        self._index()
        for run in self.runs.values():
            self._run(run)
        for board in self.boards:
            self._compare(board)

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
        return {**known, "name": name, "title": title, "id": _id(name), "mixed": len(kinds) == 2}

    def _assets(self, table_json: Path) -> None:
        target = self.out / "assets"
        target.mkdir(parents=True)
        for path in sorted((report_files() / "static").iterdir()):
            shutil.copyfile(path, target / path.name)
        write_text(target / "vega.js", charts.script())
        shutil.copyfile(table_json, self.out / "table.json")
        if (self.results / "table.csv").is_file():
            shutil.copyfile(self.results / "table.csv", self.out / "table.csv")

    def _copy_logs(self, run: Run) -> list[Log]:
        names = dict.fromkeys(name for cell in run.cells for name in cell.get("logs", ()))
        logs = []
        for name in names:
            href = f"../logs/{run.slug}/{slug(*Path(name).parts)}.txt"
            log = read_log(self.results / name, name, href)
            if log is not None:
                write_text(self.out / "runs" / href, log.text)
                logs.append(log)
        return logs

    def _logs_of(self, cell: Cell, folder: str) -> list[dict[str, str]]:
        wanted = cell.get("logs", ())
        found = [log for log in self.logs[run_slug(cell)] if log.name in wanted]
        return [{"name": log.name, "href": log.href.removeprefix("../")} for log in found]

    # Index

    def _index(self) -> None:
        figures = Figures(self.out / "charts")
        sections = []
        for name in dict.fromkeys(board.dataset for board in self.boards):
            entries = [self._entry(b, figures) for b in self.boards if b.dataset == name]
            dataset = self.dataset(name)
            meta = _dataset_meta(dataset)
            sections.append(
                {
                    **dataset,
                    "boards": entries,
                    "meta": meta,
                    "description": dataset.get("description", ""),
                }
            )
        self.page(
            "index.html.j2",
            "index.html",
            sections=sections,
            facts=self._facts(),
            charts=figures.data,
        )

    def _entry(self, board: Board, figures: Figures) -> dict[str, Any]:
        return {
            "board": board,
            "title": TASK_TITLES.get(board.task, board.task),
            "protocol": _protocol(board.protocol),
            "axes": pareto_axes(figures, board),
            "curves": board_curves(figures, board, self.runs, self.results),
            "compare": self._compare_path(board),
        }

    def _facts(self) -> list[dict[str, Any]]:
        runs = list(self.runs.values())
        states = [status_of(cell) for cell in self.table["cells"]]
        counts = {
            "datasets": len({run.dataset for run in runs}),
            "experiments": len({(r.dataset, r.experiment) for r in runs if r.kind != "control"}),
            "scored results": states.count("ok"),
            "failed": states.count("failed"),
            "not run": states.count("not_run"),
        }
        always = ("datasets", "experiments", "scored results")
        return [
            {"label": label if n != 1 else _singular(label), "text": n}
            for label, n in counts.items()
            if n or label in always
        ]

    # Runs

    def _run(self, run: Run) -> None:
        figures = Figures(self.out / "charts")
        logs = self.logs[run.slug]
        parts = [self._part(run, cell, figures) for cell in run.scored]
        siblings = [
            r
            for r in self.runs.values()
            if (r.dataset, r.experiment) == (run.dataset, run.experiment) and r is not run
        ]
        self.page(
            "run.html.j2",
            f"runs/{run.slug}.html",
            run=run,
            dataset=self.dataset(run.dataset),
            parts=parts,
            siblings=siblings,
            logs=logs,
            model=model_entry(self.table["models"], run.model_id),
            costs=_costs(run),
            problems=[_problem(cell, logs) for cell in run.cells if status_of(cell) != "ok"],
            curve=run_curve(figures, run, self.results),
            provenance=provenance_rows(run),
            recipe=recipe_rows(self.results, run),
            charts=figures.data,
        )

    def _part(self, run: Run, cell: Cell, figures: Figures) -> dict[str, Any]:
        record = f"{run.slug}-{cell['task']}.json"
        write_json(self.out / "runs" / record, cell["record"])
        gallery = self.galleries.of_cell(cell)
        part = {
            "cell": cell,
            "scores": score_rows(cell),
            "classes": class_table(cell),
            "record": record,
            "confusion": None,
            "heat": None,
            "worst": [],
            "gallery": None,
            "preview": [],
        }
        if gallery is not None:
            href = f"../gallery/{_gallery_name(run, cell, 1)}"
            part |= {"gallery": {"href": href, "count": len(gallery.images)}}
            part["preview"] = gallery.images[:PREVIEW_IMAGES]
            self._gallery(run, cell, gallery)
        matrix = self.galleries.evidence(cell).confusion if cell["task"] == "semantic" else None
        if matrix is not None:
            confusion = confusion_of(matrix, cell["record"]["per_class"])
            part |= {"confusion": confusion, "worst": confusion.worst()}
            if not confusion.as_table:
                part["heat"] = heat_map(figures, f"{run.slug}-confusion", confusion)
        return part

    # Images

    def _gallery(self, run: Run, cell: Cell, gallery: Gallery) -> None:
        pages = -(-len(gallery.images) // PAGE_IMAGES)
        for page in range(1, pages + 1):
            start = (page - 1) * PAGE_IMAGES
            self.page(
                "gallery.html.j2",
                f"gallery/{_gallery_name(run, cell, page)}",
                run=run,
                task=cell["task"],
                dataset=self.dataset(run.dataset),
                images=gallery.images[start : start + PAGE_IMAGES],
                first=start + 1,
                page=page,
                pages=pages,
                page_name=lambda n: _gallery_name(run, cell, n),
                views=gallery.views,
                palette=gallery.palette,
                error_legend=gallery.error_legend,
                order_note=gallery.order_note,
                metric=IMAGE_SCORES[cell["task"]],
            )

    def _compare_path(self, board: Board) -> str | None:
        return f"compare/{board.id}.html" if len(self._comparable(board)) > 1 else None

    def _comparable(self, board: Board) -> list[Cell]:
        """Return one scored cell with images per experiment, best first, controls last."""
        cells = [row.run for row in (*board.scored, *board.controls) if row.status == "ok"]
        return [cell for cell in cells if self.galleries.of_cell(cell) is not None]

    def _compare(self, board: Board) -> None:
        path = self._compare_path(board)
        if path is None:
            return
        cells = self._comparable(board)
        metric = IMAGE_SCORES[board.task]
        comparison = self.galleries.compare(cells, metric)
        models = [{"slug": run_slug(c), "name": self.runs[run_slug(c)].name} for c in cells]
        self.page(
            "compare.html.j2",
            path,
            board=board,
            task=board.task,
            dataset=self.dataset(board.dataset),
            metric=metric,
            images=comparison.images,
            models=models,
            shown=models[:COMPARE_COLUMNS],
            has_truth=any(image["truth"] for image in comparison.images),
            palette=comparison.palette,
            error_legend=comparison.error_legend,
            data={"images": comparison.images, "models": models, "metric": metric.label},
        )


def _id(dataset: str) -> str:
    return f"data-{slug(dataset)}"


def _singular(label: str) -> str:
    return label.removesuffix("s") if label.endswith("s") else label


def _protocol(protocol_id: str) -> Protocol | None:
    return next((p for p in protocols() if p.id == protocol_id), None)


def _dataset_meta(dataset: Mapping[str, Any]) -> list[str]:
    if not dataset.get("categories"):
        return ["this dataset has not been prepared yet"]
    categories = dataset["categories"]
    things = sum(bool(c["isthing"]) for c in categories)
    meta = [f"{len(categories)} classes ({things} things, {len(categories) - things} stuff)"]
    splits = dataset.get("splits") or {}
    sizes = splits.items() if isinstance(splits, Mapping) else [(s, None) for s in splits]
    meta += [f"{name} {n} images" if isinstance(n, int) else str(name) for name, n in sizes]
    return meta + ([f"licence: {dataset['licence']}"] if dataset.get("licence") else [])


def _costs(run: Run) -> list[dict[str, str]]:
    found = [(metric, run.profile.get(metric.key)) for metric in COSTS]
    return [{"label": m.label, "text": m.text(v)} for m, v in found if m.text(v) != MISSING]


def _problem(cell: Cell, logs: Sequence[Log]) -> dict[str, Any]:
    own = [log for log in logs if log.name in cell.get("logs", ())]
    return {"cell": cell, "log": own[-1] if own else None}


def _gallery_name(run: Run, cell: Cell, page: int) -> str:
    suffix = "" if page == 1 else f"-{page}"
    return f"{run.slug}-{cell['task']}{suffix}.html"
