"""A site tells nothing of its machine, and holds no file from outside of its results."""

import csv
import getpass
import io
import json
import os
import re
import shutil
import socket
from pathlib import Path

import pytest
from PIL import Image

from segbench.core.errors import DataError
from segbench.formats.tidy_table import neutral, tidy_csv
from segbench.report import clean as report_clean
from segbench.report.clean import Cleaner
from segbench.report.render import render_report

USER, HOST = "mallory.lind", "gpu-node-17"
SECRET = "a private file of somebody"


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Another user on another machine, whose home is a folder of this test."""
    home = tmp_path / "export" / USER
    home.mkdir(parents=True)
    for key in ("USER", "LOGNAME", "USERNAME"):
        monkeypatch.setenv(key, USER)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("HOSTNAME", f"{HOST}.cluster.example.org")
    monkeypatch.setattr(socket, "gethostname", lambda: f"{HOST}.cluster.example.org")
    monkeypatch.setattr(getpass, "getuser", lambda: USER)
    return home


@pytest.fixture
def board(machine, results):
    """A copy of a board below the home, whose texts and logs tell of the machine."""
    root = machine / "my results"
    shutil.copytree(results, root)
    table = json.loads((root / "table.json").read_text(encoding="utf-8"))
    table["results"] = str(root)
    table["title"] = f"Board of {USER} on {HOST}"
    traces = traces_of(root, machine)
    for number, cell in enumerate(table["cells"]):
        cell["reason"] = f"{cell['reason']} {traces[number % len(traces)]}"
        cell["display_name"] = cell["display_name"] or ""
        for name in cell["logs"]:
            with (root / name).open("a", encoding="utf-8") as stream:
                stream.write("\n" + "\n".join(traces) + "\n")
        if cell["record"]:
            cell["record"]["warnings"] = traces
            cell["record"]["provenance"]["hardware"] = {"cpu": "x", "host": HOST, "at": traces[0]}
    for description in filter(None, table["datasets"].values()):
        description["description"] = traces[2]
        description["options"] = {"raw": str(machine / "raw data" / "camvid")}
    for recipe in root.rglob("recipe.json"):
        facts = json.loads(recipe.read_text(encoding="utf-8"))
        facts["recipe"]["init_from"] = str(machine / "weights" / "first.safetensors")
        facts["recipe"]["backbone_weights"] = f"/scratch/{USER}/imagenet.pth"
        recipe.write_text(json.dumps(facts), encoding="utf-8")
    (root / "table.json").write_text(json.dumps(table), encoding="utf-8")
    return root


def traces_of(root: Path, home: Path) -> list[str]:
    import segbench

    checkout = Path(segbench.__file__).parent
    return [
        f'Traceback: File "{checkout}/training/loop.py", line 3, in train',
        f"  File '{home}/venv/lib/python3.11/site-packages/torch/nn/modules.py', line 1",
        f"done: 24 iterations, {root}/shapes/fcn/seed0/weights.safetensors",
        f"{USER}@{HOST}:~{USER}/x$ PATH={home}/bin:/opt/tools/{USER}/bin --out={root}/a",
        f"srun: error: {HOST}: task 0: Out Of Memory",
        "srun: error: other-node-3: task 0: Exited with exit code 9",
        f"PosixPath('/mnt/nfs/{USER}/data set/a.png') file:///data/{USER}/b.png",
        f"Host: {HOST} user={USER} ({HOST}.cluster.example.org) {USER}'s job",
        f"/home/somebody/project/file.txt /scratch/{USER} -I{home}/include",
        f"{checkout.parent}/report/x {Path('/var/spool') / USER}",
    ]


def texts_of(site: Path):
    """Yield name and content of every file, and the metadata of every picture."""
    for path in sorted(site.rglob("*")):
        yield str(path.relative_to(site)), path.name
        if path.is_file():
            yield str(path.relative_to(site)), path.read_bytes().decode("utf-8", errors="replace")
        if path.suffix in (".png", ".webp", ".jpg"):
            with Image.open(path) as image:
                yield str(path.relative_to(site)), repr(image.info)


@pytest.mark.fault(28)
def test_a_site_names_no_path_user_or_host_of_its_machine(board, machine, tmp_path):
    import segbench

    out = tmp_path / "site"
    render_report(board / "table.json", out)
    checkout = str(Path(segbench.__file__).parents[1])
    traces = [USER, HOST, str(board), str(machine), str(tmp_path), checkout, "cluster.example"]
    traces += ["site-packages/torch/nn/m", "/scratch/", "/mnt/nfs", "somebody", "other-node-3"]
    found = {
        (name, trace)
        for name, text in texts_of(out)
        for trace in traces
        if trace.lower() in text.lower()
    }
    assert not found
    logs = "".join(path.read_text(encoding="utf-8") for path in (out / "logs").rglob("*.txt"))
    assert "done: 24 iterations, <results>/shapes/fcn/seed0/weights.safetensors" in logs
    assert "<segbench>/segbench/training/loop.py" in logs
    assert "srun: error: <node>: task 0: Exited with exit code 9" in logs


@pytest.mark.parametrize(
    ("user", "host"),
    [("a", "b"), ("root", "train"), ("data", "report"), ("model", "gpu"), ("", "localhost")],
)
def test_common_words_stay_words(monkeypatch, user, host):
    for key in ("USER", "LOGNAME", "USERNAME", "HOSTNAME", "SUDO_USER", "SLURMD_NODENAME"):
        monkeypatch.setenv(key, "")
    monkeypatch.setenv("HOME", f"/home/{user}" if user else "/")
    monkeypatch.setattr(getpass, "getuser", lambda: user)
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", host, "", "", "")))
    cleaner = Cleaner.of_this_machine([Path("/srv/board")])
    kept = [
        "train: a model of the root class, b/a data report, gpu 0, train/root/a/seed0",
        "and/or 3/4 n/a mIoU/PQ AP@50 e.g. a@b.c? https://example.org/a/b?x=/c/d",
        "logs/train/shapes/a/seed0.log ../a/b ./data/root/x.png",
        "<b>not bold</b> </script> 1 / 2 // comment",
    ]
    for text in kept:
        assert cleaner.text(text) == text or f"{user}@{host}" in text
    assert cleaner.text("/srv/board/data/x.png") == "<results>/data/x.png"
    assert cleaner.text(f"/home/{user or 'x'}/w.pth") == "<home>/w.pth"
    assert cleaner.text("/srv/boards/x.png") == "<path>/x.png"
    if user:
        assert cleaner.text(f"{user}@{host}:") == "<user>@<host>:" or host == "localhost"


def test_names_that_are_no_words_are_found_wherever_they_stand_alone():
    cleaner = Cleaner((), ("mlind",), ("n0042",))
    assert cleaner.text("job of mlind on n0042.") == "job of <user> on <host>."
    assert cleaner.text("mlinden xmlind n00421 (MLIND)") == "mlinden xmlind n00421 (<user>)"


def test_texts_without_traces_cost_one_search(monkeypatch):
    cleaner = Cleaner((("/srv/board", "<results>"),), ("mlind",), ())
    monkeypatch.setattr(report_clean.Cleaner, "_rules", None)
    assert cleaner.text("a plain text of 12 words") == "a plain text of 12 words"


LEADS_OUT = {
    "logs": [["../secret.txt"], ["/etc/hostname"], ["logs/../../secret.txt"], [3], [None], ["\0"]],
    "run_folder": ["..", "/", "a/../../b", "/etc"],
    "split": ["../val", "/val"],
    "dataset": ["../../shapes", "/shapes"],
    "task": ["../semantic", "/etc", "", None, 3],
    "seed": ["../0", None, "0"],
    "experiment": [None, 3],
    "kind": [None],
}  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in LEADS_OUT.items() for value in values]
)
def test_a_table_whose_paths_lead_out_is_refused(results, table, tmp_path, key, value):
    cells = [dict(cell) for cell in table["cells"]]
    cells[0][key] = value
    path = tmp_path / "table.json"
    path.write_text(json.dumps({**table, "cells": cells}), encoding="utf-8")
    with pytest.raises(DataError, match=r"table\.json: cells\[0\]: "):
        render_report(path, tmp_path / "site", results=results)
    assert not (tmp_path / "site").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"cells": None}, {"cells": [3]}, {"cells": "x"}, {"datasets": []}, {"models": None},
        {"datasets": {"../x": None}},
    ],
)  # fmt: skip
def test_a_table_of_other_kinds_is_refused(table, tmp_path, change):
    path = tmp_path / "table.json"
    path.write_text(json.dumps({**table, **change}), encoding="utf-8")
    with pytest.raises(DataError, match=r"table\.json: "):
        render_report(path, tmp_path / "site")


def test_counts_of_a_record_lead_nowhere_else(table, tmp_path):
    cells = [dict(cell) for cell in table["cells"] if cell["record"]]
    cells[0] = {**cells[0], "record": {**cells[0]["record"], "counts": "../../../x.npz"}}
    path = tmp_path / "table.json"
    path.write_text(json.dumps({**table, "cells": cells}), encoding="utf-8")
    with pytest.raises(DataError, match="leads out of the results folder"):
        render_report(path, tmp_path / "site")


def secret_holders(site: Path) -> list[str]:
    return [name for name, text in texts_of(site) if SECRET in text]


def test_links_that_lead_out_are_left_out(results, tmp_path):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "log.txt").write_text(SECRET)
    (secret / "recipe.json").write_text(json.dumps({"recipe": {"note": SECRET}}))
    root = tmp_path / "results"
    shutil.copytree(results, root)
    table = json.loads((root / "table.json").read_text(encoding="utf-8"))
    log = next(name for cell in table["cells"] for name in cell["logs"])
    (root / log).unlink()
    (root / log).symlink_to(secret / "log.txt")
    run = next(cell["run_folder"] for cell in table["cells"] if cell["record"])
    (root / run / "recipe.json").unlink(missing_ok=True)
    (root / run / "recipe.json").symlink_to(secret / "recipe.json")
    photo = Image.new("RGB", (48, 40), (1, 2, 3))
    photo.save(secret / "photo.png")
    pictures = [p for p in (root / "data").rglob("*") if p.is_file() and p.parent.name != "x"]
    first = next(p for p in pictures if p.suffix in (".png", ".jpg") and "image" in str(p.parent))
    first.unlink()
    first.symlink_to(secret / "photo.png")
    render_report(root / "table.json", tmp_path / "site")
    assert not secret_holders(tmp_path / "site")
    assert not [p for p in (tmp_path / "site").rglob("*") if p.is_symlink()]
    photos = [p.stem for p in (tmp_path / "site").rglob("photo/*.webp")]
    assert photos
    assert first.stem not in photos


def test_a_folder_of_runs_that_is_a_link_is_left_out(results, tmp_path):
    root, elsewhere = tmp_path / "results", tmp_path / "elsewhere"
    shutil.copytree(results, root)
    (root / "logs").rename(elsewhere)
    (root / "logs").symlink_to(elsewhere)
    render_report(root / "table.json", tmp_path / "site")
    assert not (tmp_path / "site" / "logs").exists()


def test_the_results_that_a_table_names_are_not_trusted(table, tmp_path):
    secret = tmp_path / "home"
    (secret / "data").mkdir(parents=True)
    (secret / "diary.txt").write_text(SECRET)
    cells = [{**cell, "logs": ["diary.txt"]} for cell in table["cells"]]
    path = tmp_path / "mail" / "table.json"
    path.parent.mkdir()
    path.write_text(json.dumps({**table, "cells": cells, "results": str(secret)}))
    render_report(path, tmp_path / "site")
    assert not secret_holders(tmp_path / "site")


def test_images_of_a_dataset_lie_in_its_folder(results, tmp_path):
    root = tmp_path / "results"
    shutil.copytree(results, root)
    listing = next((root / "data" / "shapes").glob("*.jsonl"))
    Image.new("RGB", (48, 40)).save(tmp_path / "photo.png")
    rows = [json.loads(line) for line in listing.read_text().splitlines()]
    rows[0]["image"] = "../../../photo.png"
    listing.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match="outside of the dataset"):
        render_report(root / "table.json", tmp_path / "site")


FORMULAS = [
    "=1+1", "+cmd", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "=HYPERLINK(1)", " =1", "＝1", "--1", "+ 1",
    "\n=1",
]  # fmt: skip


@pytest.mark.parametrize("text", FORMULAS)
def test_formulas_are_neutral_in_the_csv_of_a_board(table, text):
    cells = [{**table["cells"][0], "display_name": text, "experiment": text, "dataset": text}]
    rows = list(csv.reader(io.StringIO(tidy_csv({**table, "cells": cells}), newline="")))
    assert rows[1][:3] == ["'" + text.replace("\r", "\n")] * 3
    assert not [cell for row in rows for cell in row if re.match(r"\s*[=+@＝]", cell)]


@pytest.mark.parametrize("value", ["-1.5", "+3", "-inf", "1e-3", -1.5, 0, None, "a=b", "plain"])
def test_numbers_stay_numbers(value):
    assert neutral(value) == value


def test_the_site_has_its_own_csv_without_formulas(results, table, tmp_path):
    cells = [{**cell, "display_name": "=cmd|' /C calc'!A0"} for cell in table["cells"]]
    path = tmp_path / "table.json"
    path.write_text(json.dumps({**table, "cells": cells}), encoding="utf-8")
    (tmp_path / "table.csv").write_text(SECRET)
    render_report(path, tmp_path / "site", results=results, gallery_images=0)
    text = (tmp_path / "site" / "table.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    assert len(rows) == len(cells)
    assert {row["display_name"] for row in rows} == {"'=cmd|' /C calc'!A0"}
