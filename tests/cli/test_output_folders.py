"""Commands that write a folder or a file: every kind of thing that may be in their way.

Each combination compares all names and bytes of a sandbox before and after.
"""

import json
import shutil
from pathlib import Path

import pytest

from segbench.core.output_folder import MARKER, read_marker
from tests.commands import command as call

ROOT = Path(__file__).resolve().parents[2]
TASKS = "[semantic, instance, panoptic]"
CONFIG = """\
results: board
datasets: {digit_scenes: {options: {train: 2, val: 3}}}
runs: [{dataset: digit_scenes, controls: [oracle]}]
report: {gallery_images: 1}
"""
RECIPE = ROOT / "workflow" / "experiments" / "digit_scenes" / "fcn_tiny.yaml"


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A small board made by the commands themselves, and all that lies around it."""
    base = tmp_path_factory.mktemp("made")
    board, run = base / "board", base / "board/digit_scenes/oracle/seed0"
    (base / "config.yaml").write_text(CONFIG)
    options = ("--option", "train=2", "--option", "val=3")
    data, predictions = board / "data/digit_scenes", run / "predictions/val"
    scores, site = run / "evaluation/val", base / "site"
    assert call("prepare", "digit_scenes", *options, "--out", data) == 0
    assert call("control", "oracle", "--data", data, "--out", predictions) == 0
    read = ("--data", data, "--predictions", predictions)
    assert call("evaluate", *read, "--out", scores) == 0
    drawn = run / "overlays/val"
    assert call("overlays", *read, "--evaluation", scores, "--images", 1, "--out", drawn) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(base)
        assert call("collect", "--config", "config.yaml") == 0
    assert call("report", board / "table.json", "--out", site) == 0
    made_scores = base / "scores"
    semantic = ("--task", "semantic", "--num-classes", 14)
    assert call("score", *semantic, "--gt", data / "semantic/val", "--pred",
                predictions / "semantic", "--out", made_scores) == 0  # fmt: skip
    (base / "trained").mkdir()
    (base / "trained/recipe.json").write_text('{"recipe_digest": "0", "seed": 0}')
    (base / "trained/weights.safetensors").write_bytes(b"weights")
    shutil.copytree(predictions, base / "elsewhere", ignore=shutil.ignore_patterns(MARKER))
    (base / "mine.yaml").write_text(f"dataset: digit_scenes\ntasks: {TASKS}\nfolder: elsewhere\n")
    for name in ("home/notes.txt", "cwd/notes.txt", "documents/thesis.txt"):
        (base / name).parent.mkdir(exist_ok=True)
        (base / name).write_text("years of work")
    return base


@pytest.fixture
def box(made, tmp_path, monkeypatch):
    """A private copy of the board; the current folder is ``cwd`` in it, home is ``home``."""
    box = shutil.copytree(made, tmp_path / "box", symlinks=True)
    text = (box / "mine.yaml").read_text()
    (box / "mine.yaml").write_text(text.replace("elsewhere", str(box / "elsewhere")))
    monkeypatch.setenv("HOME", str(box / "home"))
    monkeypatch.chdir(box / "cwd")
    return box


RUN = "board/digit_scenes/oracle/seed0"
DATA = "board/data/digit_scenes"
REPLACED = ("report", "control", "submit", "overlays", "predict")
UPDATED = ("evaluate", "score", "train")
OURS = {
    "report": "site",
    "control": f"{RUN}/predictions/val",
    "submit": f"{RUN}/predictions/val",
    "predict": f"{RUN}/predictions/val",
    "overlays": f"{RUN}/overlays/val",
    "evaluate": f"{RUN}/evaluation/val",
    "score": "scores",
    "train": "trained",
    "prepare": DATA,
}
"""A finished folder of each command."""
READ = {
    "report": ("board/table.json", "--out"),
    "control": (DATA,),
    "submit": ("elsewhere", DATA),
    "predict": ("trained", DATA),
    "overlays": (DATA, f"{RUN}/predictions/val", f"{RUN}/evaluation/val"),
    "evaluate": (DATA, f"{RUN}/predictions/val"),
    "score": (f"{DATA}/semantic/val", f"{RUN}/predictions/val/semantic"),
    "train": (DATA,),
    "prepare": (),
}


def command(name, box, out) -> list[object]:
    data, run = box / DATA, box / RUN
    read = ["--data", data, "--predictions", run / "predictions/val"]
    return {
        "report": ["report", box / "board/table.json"],
        "control": ["control", "oracle", "--data", data],
        "submit": ["submit", box / "mine.yaml", "--data", data],
        "predict": ["predict", RECIPE, "--run", box / "trained", "--data", data],
        "overlays": ["overlays", *read, "--evaluation", run / "evaluation/val", "--images", 1],
        "evaluate": ["evaluate", *read],
        "score": ["score", "--task", "semantic", "--num-classes", 14, "--gt",
                  data / "semantic/val", "--pred", run / "predictions/val/semantic"],
        "train": ["train", RECIPE, "--data", data, "--state", box / "state", "--iterations", 1],
        "prepare": ["prepare", "digit_scenes", "--option", "train=2", "--option", "val=2"],
    }[name] + ["--out", out]  # fmt: skip


def tree(folder):
    """Return every name below a folder with its content."""
    found = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        else:
            found[name] = path.read_bytes() if path.is_file() else "folder"
    return found


def check_refused(box, capfd, arguments, words="--out"):
    before, top = tree(box), sorted(ROOT.iterdir())
    capfd.readouterr()
    code, printed = call(*arguments), capfd.readouterr().err
    assert code == 2, printed
    assert printed.count("error: ") == 1
    assert words in printed
    assert "Traceback" not in printed
    after = tree(box)
    assert after.keys() == before.keys()
    assert after == before
    assert sorted(ROOT.iterdir()) == top


def _other_kind(box, name):
    source = "site" if OURS[name] != "site" else f"{RUN}/predictions/val"
    return shutil.copytree(box / source, box / "other")


def _ours_and_a_file(box, name):
    out = shutil.copytree(box / OURS[name], box / "mixed")
    (out / "thesis.txt").write_text("years of work")
    return out


def _ours_and_a_picture(box, name):
    out = shutil.copytree(box / OURS[name], box / "mixed")
    inner = next(path for path in sorted(out.iterdir()) if path.is_dir())
    (inner / "mine.png").write_bytes(b"years of work")
    return out


def _ours_and_an_empty_folder(box, name):
    out = shutil.copytree(box / OURS[name], box / "mixed")
    (out / "to do").mkdir()
    return out


def _ours_and_a_link(box, name):
    out = shutil.copytree(box / OURS[name], box / "mixed")
    (out / "shortcut").symlink_to(box / "documents")
    return out


def _ours_and_hidden(box, name):
    out = shutil.copytree(box / OURS[name], box / "mixed")
    (out / ".notes").write_text("years of work")
    return out


def _lookalike(box, name):
    """Return a folder of the same form that somebody else has made."""
    out = shutil.copytree(box / OURS[name], box / "theirs")
    for path in out.glob("*"):
        if path.name in {MARKER, "manifest.json", "overlays.json", "table.json"}:
            path.unlink()
    return out


def _unknown_marker(box, name):
    out = shutil.copytree(box / OURS[name], box / "newer")
    (out / MARKER).write_text(json.dumps({"schema": 99, "kind": "predictions", "files": []}))
    return out


def _broken_marker(box, name):
    del name
    (box / "documents" / MARKER).write_text("[" * 100_000)
    return box / "documents"


def _link_to(name):
    def make(box, command_name):
        del command_name
        (box / "link").symlink_to(box / name)
        return box / "link"

    return make


def _links_in_a_circle(box, name):
    del name
    (box / "a").symlink_to(box / "b")
    (box / "b").symlink_to(box / "a")
    return box / "a"


def _file(box, name):
    del name
    return box / "config.yaml"


def _below_a_file(box, name):
    del name
    return box / "config.yaml" / "x"


def _first_input(box, name):
    return box / READ[name][0]


def _parent_of_the_input(box, name):
    return (box / READ[name][0]).parent


def _child_of_the_input(box, name):
    return box / READ[name][-1] / "new"


PLACES = {
    "foreign": lambda box, _: box / "documents",
    "another kind": _other_kind,
    "ours and a file": _ours_and_a_file,
    "ours and a picture": _ours_and_a_picture,
    "ours and an empty folder": _ours_and_an_empty_folder,
    "ours and a link": _ours_and_a_link,
    "ours and a hidden file": _ours_and_hidden,
    "lookalike": _lookalike,
    "newer marker": _unknown_marker,
    "broken marker": _broken_marker,
    "link to foreign": _link_to("documents"),
    "results": lambda box, _: box / "board",
    "run": lambda box, _: box / RUN,
    "state": lambda box, _: box / "board/digit_scenes",
    "checkout docs": lambda *_: ROOT / "docs",
    "checkout templates": lambda *_: ROOT / "report",
}
EVERYWHERE = {
    "file": _file,
    "below a file": _below_a_file,
    "circle of links": _links_in_a_circle,
    "checkout": lambda *_: ROOT,
    "parent of the checkout": lambda *_: ROOT.parent,
    "package": lambda *_: ROOT / "segbench",
    "git": lambda *_: ROOT / ".git" / "site",
    "home": lambda box, _: box / "home",
    "link to home": _link_to("home"),
    "tilde": lambda *_: "~",
    "dot": lambda *_: ".",
    "empty text": lambda *_: "",
    "two dots": lambda *_: "..",
    "root": lambda *_: "/",
    "name too long": lambda box, _: box / ("x" * 300),
}
INPUTS = {
    "input": _first_input,
    "parent of the input": _parent_of_the_input,
    "child of the input": _child_of_the_input,
}
REFUSED = (
    [(name, place, make) for name in REPLACED for place, make in PLACES.items()]
    + [(name, place, make) for name in (*REPLACED, *UPDATED, "prepare")
       for place, make in EVERYWHERE.items()]
    + [("prepare", place, make) for place, make in PLACES.items() if place not in
       ("newer marker", "broken marker", "lookalike", "ours and an empty folder",
        "ours and a picture")]
    + [(name, place, make) for name in REPLACED for place, make in INPUTS.items()
       if (name, place) not in {("report", "child of the input")}]
    + [(name, "input", _first_input) for name in ("evaluate", "score", "train")]
    + [(name, "child of the input", _child_of_the_input) for name in ("evaluate", "train")]
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "place", "make"), REFUSED, ids=[f"{name}-{place}" for name, place, _ in REFUSED]
)
def test_what_is_not_ours_is_refused_and_untouched(box, capfd, name, place, make):
    out = make(box, name)
    check_refused(box, capfd, command(name, box, out))


WORKING = [name for name in (*REPLACED, "evaluate", "score", "prepare") if name != "predict"]


@pytest.mark.parametrize("name", WORKING)
@pytest.mark.parametrize("place", ["absent", "empty", "marker alone", "ours", "link to ours"])
def test_an_empty_folder_and_our_own_are_taken(box, name, place):
    own = shutil.copytree(box / OURS[name], box / "own")
    out = {"absent": box / "new/er", "empty": box / "empty", "marker alone": box / "begun"}.get(
        place, own
    )
    (box / "empty").mkdir()
    (box / "begun").mkdir()
    if place == "marker alone" and (own / MARKER).exists():
        kind = read_marker(own).kind
        (box / "begun" / MARKER).write_text(json.dumps({"schema": 1, "kind": kind}))
    if place == "link to ours":
        out = box / "link"
        out.symlink_to(own)
    before = tree(box)
    assert call(*command(name, box, out)) == 0
    after = tree(box)
    inside = {"link to ours": "own"}.get(place, out.relative_to(box).as_posix())
    kept = {k: v for k, v in before.items() if not f"{k}/".startswith(f"{inside}/")}
    assert {k: v for k, v in after.items() if k in kept} == kept
    left = [n for n in after if "building" in n or "lock" in n or ".old" in n]
    assert left == []
    written = set(tree(out.resolve()))
    assert name == "prepare" or set(tree(box / OURS[name])) <= written


@pytest.mark.parametrize(
    ("name", "place"),
    [("evaluate", "foreign"), ("evaluate", "ours and a file"), ("evaluate", "ours and a picture"),
     ("score", "foreign"), ("score", "ours and a file")],
)  # fmt: skip
def test_files_beside_scores_stay(box, name, place):
    out = PLACES[place](box, name)
    before = tree(out)
    assert call(*command(name, box, out)) == 0
    after = tree(out)
    mine = {k for k in before if "thesis" in k or "mine" in k}
    assert mine
    assert all(after[k] == before[k] for k in mine)


@pytest.mark.parametrize(
    ("name", "file"),
    [("evaluate", "records.json"), ("evaluate", "semantic/counts.npz"), ("score", "scores.json"),
     ("score", "counts.npz"), ("train", "weights.safetensors"), ("train", "recipe.json")],
)  # fmt: skip
def test_a_file_of_somebody_else_is_never_written_over(box, capfd, name, file):
    target = box / "documents" / file
    target.parent.mkdir(exist_ok=True)
    target.write_text('{"mine": true}')
    check_refused(box, capfd, command(name, box, box / "documents"), words=file)


JSON_OUT = {
    "collect": lambda box: ["collect", "--config", box / "config.yaml", "--results", box / "board"],
    "profile": lambda box: ["profile", "fcn_tiny", "--num-classes", "5"],
    "download": lambda box: ["download", "digit_scenes"],
}


@pytest.mark.parametrize("name", JSON_OUT)
@pytest.mark.parametrize(
    "out", ["config.yaml", "README.md", "notes.json", "documents", "package.json"]
)
def test_a_json_result_never_replaces_another_file(box, capfd, name, out):
    (box / "README.md").write_text("# mine")
    (box / "notes.json").write_text("my notes")
    (box / "package.json").write_text('{"name": "mine", "schema": 1}')
    check_refused(box, capfd, [*JSON_OUT[name](box), "--out", box / out])


def test_a_table_never_replaces_a_foreign_csv(box, capfd):
    (box / "marks.csv").write_text("name,mark\nme,1\n")
    check_refused(box, capfd, [*JSON_OUT["collect"](box), "--out", box / "marks.json"], "marks.csv")


@pytest.mark.parametrize("name", ["collect", "download"])
def test_our_own_json_result_is_written_again(box, name):
    for _ in range(2):
        assert call(*JSON_OUT[name](box), "--out", box / "again.json") == 0


@pytest.mark.parametrize("name", ["control", "overlays", "report"])
def test_a_folder_of_an_earlier_version_is_known_by_every_name_in_it(box, capfd, name):
    out = box / OURS[name]
    (out / MARKER).unlink()
    (out / "thesis.txt").write_text("years of work")
    check_refused(box, capfd, command(name, box, out), words="thesis.txt")
    (out / "thesis.txt").unlink()
    assert call(*command(name, box, out)) == 0
    assert read_marker(out).files


def test_predictions_of_an_earlier_version_are_known_where_the_workflow_put_them(box, capfd):
    """Snakemake takes the manifest away before the job runs again."""
    for folder in (box / OURS["control"], shutil.copytree(box / OURS["control"], box / "theirs")):
        (folder / MARKER).unlink()
        (folder / "manifest.json").unlink()
    check_refused(box, capfd, command("control", box, box / "theirs"))
    assert call(*command("control", box, box / OURS["control"])) == 0
