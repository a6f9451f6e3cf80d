"""``segbench datasets``: what is known, what of it is here, and what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from segbench.cli import output

if TYPE_CHECKING:
    from segbench.core.types import DatasetInfo

ROOT = click.option(
    "--root", type=output.PATH, default=Path("results/data"), show_default=True,
    help="Folder of prepared datasets.",
)  # fmt: skip
RAW_ROOT = click.option(
    "--raw-root", type=output.PATH, default=Path("results/raw"), show_default=True,
    help="Folder of downloaded datasets.",
)  # fmt: skip
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(invoke_without_command=True)
@JSON
@ROOT
@RAW_ROOT
@click.pass_context
def datasets(ctx: click.Context, as_json: bool, root: Path, raw_root: Path) -> None:
    """List the datasets: what is here, its size on disk, and the next command of the others."""
    if ctx.invoked_subcommand is not None:
        return
    from segbench.datasets import dataset_infos

    rows = [_row(info, root, raw_root) for info in dataset_infos().values()]
    if as_json:
        output.json_out(rows)
        return
    keys = ("name", "tasks", "classes", "splits", "raw", "prepared", "missing", "next")
    output.table([_shown(row) for row in rows], keys, title=f"{len(rows)} datasets")


def _row(info: DatasetInfo, root: Path, raw_root: Path) -> dict[str, Any]:
    from segbench.datasets.download.inventory import presence_of

    here = presence_of(info, data_root=root, raw_root=raw_root)
    return {
        "name": info.name,
        "title": info.display_name,
        "tasks": list(info.tasks),
        "classes": len(info.categories),
        "splits": dict(info.splits),
        "source": _source(info),
        "licence": info.licence,
        "raw": here.raw and str(here.raw),
        "raw_bytes": here.raw_bytes,
        "prepared": here.prepared and str(here.prepared),
        "prepared_bytes": here.prepared_bytes,
        "images": here.images,
        "missing": list(here.missing),
        "next": here.next_step or None,
    }


def _source(info: DatasetInfo) -> str:
    if info.archives:
        return "login" if any(archive.login for archive in info.archives) else "archives"
    return "user folder" if info.layout else "embedded"


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row as people read it."""
    from segbench.datasets.download.inventory import size_text

    raw = size_text(row["raw_bytes"]) if row["raw"] else None
    prepared = f"{row['images']} images, {size_text(row['prepared_bytes'])}"
    return {
        **row,
        "tasks": ", ".join(row["tasks"]),
        "splits": ", ".join(f"{name} {count or '?'}" for name, count in row["splits"].items()),
        "raw": "embedded" if row["source"] == "embedded" else raw,
        "prepared": prepared if row["prepared"] else None,
        "missing": ", ".join(row["missing"]) or None,
    }


@datasets.command()
@click.argument("name")
@ROOT
@RAW_ROOT
@JSON
def show(name: str, root: Path, raw_root: Path, as_json: bool) -> None:
    """Show classes, splits, protocols, licence, citation and archives of one dataset."""
    import dataclasses

    from segbench.datasets import dataset_info
    from segbench.datasets.download.inventory import archive_facts, presence_of

    info = dataset_info(name)
    here = presence_of(info, data_root=root, raw_root=raw_root)
    archives = archive_facts(info, raw_root / name)
    if as_json:
        facts = {**dataclasses.asdict(info), "archives": archives, "here": dataclasses.asdict(here)}
        output.json_out(facts)
        return
    output.facts(_facts(info))
    output.facts(
        {
            "prepared": here.prepared and f"{here.prepared}, {here.images} images",
            "missing": ", ".join(here.missing) or None,
            "next": here.next_step or None,
        }
    )
    if archives:
        _print_archives(archives)
    rows = [
        {"train id": i, "id": c.id, "name": c.name, "kind": "thing" if c.isthing else "stuff",
         "colour": "#{:02x}{:02x}{:02x}".format(*c.color)}
        for i, c in enumerate(info.categories)
    ]  # fmt: skip
    output.table(rows, list(rows[0]), title="classes")


def _facts(info: DatasetInfo) -> dict[str, Any]:
    return {
        "name": info.name, "title": info.display_name, "description": info.description,
        "tasks": ", ".join(info.tasks),
        "splits": ", ".join(f"{name} {count or '?'}" for name, count in info.splits.items()),
        "protocols": ", ".join(f"{task}: {name}" for task, name in info.protocols.items()),
        "options": dict(info.options) or None,
        "licence": info.licence, "citation": info.citation, "homepage": info.homepage or None,
        "layout": info.layout or "embedded: nothing to download",
    }  # fmt: skip


def _print_archives(archives: list[dict[str, Any]]) -> None:
    from segbench.datasets.download.inventory import size_text

    rows = [
        {
            **archive,
            "size": size_text(archive["bytes"]) or "not published",
            "name": archive["name"] + (" (optional)" if archive["optional"] else ""),
            "here": archive["state"]
            + (f", {size_text(archive['bytes_here'])}" if archive["bytes_here"] else ""),
        }
        for archive in archives
    ]
    output.table(rows, ("name", "size", "login", "how", "here"), title="archives")
