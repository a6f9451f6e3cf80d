"""Code fingerprints follow meaning, not text, place or name."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from segbench.core import fingerprint
from segbench.workflow.stages import STAGES

ROOT = Path(__file__).resolve().parents[2]
BASE = (
    '"""Doc."""\nfrom segbench.formats.label_maps import rgb2id\n\n\ndef f(x):\n    return x + 1\n'
)


def of_text(tmp_path, text: str) -> str:
    path = tmp_path / "m.py"
    path.write_text(text)
    fingerprint.forget()
    return fingerprint.code_fingerprint([path])


@pytest.mark.parametrize(
    ("text", "same"),
    [
        (BASE.replace("return x", "return  x") + "# a comment\n", True),
        (BASE.replace("Doc.", "Other."), True),
        (BASE.replace("def f(x):\n", 'def f(x):\n    """Say."""\n'), True),
        (BASE.replace("x + 1", "x + 2"), False),
        (BASE.replace("import rgb2id", "import id2rgb"), False),
        (BASE.replace("from segbench.formats.label_maps import rgb2id\n", ""), False),
        (BASE.replace("f(x)", "f(x, y=1)"), False),
    ],
)
@pytest.mark.fault(25)
def test_meaning_decides(tmp_path, text, same):
    assert (of_text(tmp_path, text) == of_text(tmp_path, BASE)) == same


def test_what_an_imported_name_is_decides_and_not_how_it_comes(tmp_path):
    call = "\n\ndef f(x):\n    return {}(x)\n"
    plain = of_text(
        tmp_path, "from segbench.formats.label_maps import rgb2id" + call.format("rgb2id")
    )
    renamed = "from segbench.formats.label_maps import rgb2id as ids" + call.format("ids")
    handed_on = "from segbench.panopticapi.utils import rgb2id" + call.format("rgb2id")
    module = "from segbench.formats import label_maps" + call.format("label_maps.rgb2id")
    other = "from segbench.formats.label_maps import id2rgb as ids" + call.format("ids")
    assert of_text(tmp_path, renamed) == plain
    assert of_text(tmp_path, handed_on) != plain  # defined there, on top of ours
    assert len({plain, of_text(tmp_path, module), of_text(tmp_path, other)}) == 3


def test_a_name_that_a_package_hands_on_is_followed_to_its_file(tmp_path):
    path = tmp_path / "m.py"
    path.write_text("from segbench.datasets import dataset_info\n")
    fingerprint.forget()
    names = {p.relative_to(fingerprint.PACKAGE).as_posix() for p in _inside([path])}
    assert "datasets/registry.py" in names
    assert "datasets/__init__.py" not in names


def test_an_import_of_nothing_we_know_stays_in_the_text(tmp_path):
    unknown = of_text(
        tmp_path, BASE.replace("segbench.formats.label_maps", "segbench.no_such_module")
    )
    assert unknown != of_text(tmp_path, BASE)


def test_messages_do_not_count(tmp_path):
    path = tmp_path / "m.py"
    path.write_text(BASE + "from segbench.core.errors import DataError\n")
    fingerprint.forget()
    names = {p.stem for p in fingerprint.closure([path])}
    assert {"m", "label_maps", "types"} <= names
    assert "errors" not in names


@pytest.mark.parametrize("name", sorted(fingerprint.NEUTRAL))
def test_neutral_names_are_modules(name):
    assert fingerprint.module_file(name).is_file()


@pytest.mark.parametrize("name", sorted({m for modules in STAGES.values() for m in modules}))
def test_entries_of_stages_are_modules(name):
    assert fingerprint.module_file(name).is_file()


def test_a_name_that_is_no_module_is_refused():
    with pytest.raises(ValueError, match=r"segbench\.evaluation\.nothing is no module"):
        fingerprint.module_file("evaluation.nothing")


def test_fingerprint_is_the_same_in_every_process():
    program = (
        "from segbench.workflow.stages import stage_fingerprint\n"
        "print([stage_fingerprint(stage) for stage in ('collect', 'train')])\n"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, text=True,
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
        ).stdout
        for seed in (1, 2, 3)
    }  # fmt: skip
    assert len(found) == 1


# ---- a copy of the package, in which modules move and expressions change

MOVES = {
    "formats.label_maps": "pixels.maps",
    "statistics.comparison": "statistics.paired",
    "statistics.bootstrap": "config.bootstrap",  # a folder with the name of a neutral module
    "workflow.config": "board.configuration",
    "evaluation.instance.tide": "evaluation.instances.error_kinds",
    "models.parts.feature_pyramid": "models.pyramid.parts",
    "training.optim": "learning.optimiser",
    "datasets.prepare.journal": "datasets.preparing.log_of_images",
    "report.pictures.layers": "pages.layers",
    "layers.roi_pool": "layers.pooling",
}
"""Module -> where it goes; modules of every part of the package, neutral ones too."""

CELLS = """
import json
from pathlib import Path
from segbench.datasets.registry import dataset_source
from segbench.workflow.plan import load_plan
from segbench.workflow.stages import STAGES, stage_fingerprint

found = {stage: stage_fingerprint(stage) for stage in STAGES}
found["prepare"] = stage_fingerprint("prepare", dataset_source("digit_scenes"))
plan = load_plan(Path("board.yaml"))
for cell in (*plan.bases, *plan.cells):
    found["predict " + "/".join(map(str, cell.key))] = plan.predict_fingerprint(cell)
    if cell.is_trained:
        found["train " + "/".join(map(str, cell.key))] = plan.train_fingerprint(cell)
print(json.dumps(found))
"""
BOARD = f"""
experiments_folder: {ROOT / "workflow" / "experiments"}
submissions_folder: .
runs:
  - dataset: digit_scenes
    controls: [oracle]
    experiments: [fcn_tiny, mask2former_tiny, mask_rcnn_tiny, panoptic_fpn_tiny]
    submissions: [mine]
    oracles: {{panoptic_fpn_tiny: [semantic]}}
"""


@pytest.fixture
def copy(tmp_path):
    """A copy of the package beside a board with every kind of cell."""
    shutil.copytree(
        ROOT / "segbench", tmp_path / "segbench", ignore=shutil.ignore_patterns("__pycache__")
    )
    (tmp_path / "board.yaml").write_text(BOARD)
    (tmp_path / "mine.yaml").write_text(
        "{dataset: digit_scenes, tasks: [semantic], folder: predictions}\n"
    )
    return tmp_path


def fingerprints(folder: Path) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", CELLS], cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")


def move(folder: Path, old: str, new: str) -> None:
    """Move a module and rewrite who imports it, as a maintainer's script would."""
    package = folder / "segbench"
    target = package.joinpath(*new.split(".")).with_suffix(".py")
    target.parent.mkdir(parents=True, exist_ok=True)
    (target.parent / "__init__.py").touch()
    package.joinpath(*old.split(".")).with_suffix(".py").rename(target)
    parent, _, name = f"segbench.{old}".rpartition(".")
    to_parent, _, to_name = f"segbench.{new}".rpartition(".")
    for path in package.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        text = re.sub(rf"\bsegbench\.{re.escape(old)}\b(?!\.)", f"segbench.{new}", text)
        text = re.sub(
            rf"^( *)from {re.escape(parent)} import (.*\b{name}\b.*)$",
            lambda m: _apart(m[1], m[2].split(", "), parent, name, to_parent, to_name),
            text,
            flags=re.MULTILINE,
        )
        if path.name in ("fingerprint.py", "stages.py"):
            text = text.replace(f'"{old}"', f'"{new}"')
        path.write_text(text, encoding="utf-8")


def _apart(
    indent: str, names: list[str], parent: str, name: str, to_parent: str, to_name: str
) -> str:
    """Return an import without the module that moves, and the import of that module."""
    own = [each for each in names if each.split(" as ")[0] == name]
    rest = [each for each in names if each not in own]
    lines = [f"{indent}from {parent} import {', '.join(rest)}"] if rest else []
    aliases = [each.split(" as ")[-1] for each in own]
    return "\n".join(
        [*lines, *(f"{indent}from {to_parent} import {to_name} as {alias}" for alias in aliases)]
    )


@pytest.mark.fault(25)
def test_moving_and_renaming_modules_changes_no_fingerprint(copy):
    before = fingerprints(copy)
    assert {"train", "evaluate", "report", "prepare"} <= set(before)
    for old, new in MOVES.items():
        move(copy, old, new)
    assert fingerprints(copy) == before
    edit(copy / "segbench/config/bootstrap.py", "return", "1 + 1\n    return")
    assert fingerprints(copy)["evaluate"] != before["evaluate"]


@pytest.mark.fault(25)
def test_an_expression_changes_the_stages_that_reach_it(copy):
    before = fingerprints(copy)
    changes = {
        "training/optim.py": ("train",),
        "models/fcn.py": (
            "train digit_scenes/fcn",
            "predict digit_scenes/fcn",
            "train digit_scenes/mask2former",  # starts from weights of fcn_tiny
        ),
        "workflow/controls.py": ("control", "predict digit_scenes/oracle"),
        "report/runs.py": ("report",),
        "workflow/record.py": ("evaluate",),
        "datasets/prepare/journal.py": ("prepare",),
    }
    for file, touched in changes.items():
        path = copy / "segbench" / file
        text = path.read_text(encoding="utf-8")
        edit(path, "\n    return ", "\n    1 + 1\n    return ")
        after = fingerprints(copy)
        changed = {key for key, digest in after.items() if digest != before[key]}
        assert changed
        assert all(key.startswith(touched) for key in changed), (file, changed)
        path.write_text(text, encoding="utf-8")
    assert fingerprints(copy) == before


def _inside(sources):
    return [p for p in fingerprint.closure(sources) if p.is_relative_to(fingerprint.PACKAGE)]
