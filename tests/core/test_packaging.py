"""What a user installs is what was tested, and nothing foreign is in the tree."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from segbench import __version__

ROOT = Path(__file__).resolve().parents[2]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {n.lower(): v for n, _, v in (line.partition("==") for line in lines) if v}


@pytest.mark.parametrize("name", ["segbench", "score"])
def test_environments_follow_the_tested_versions(name):
    environment = yaml.safe_load((ROOT / "envs" / f"{name}.yaml").read_text())
    wanted = dict(text.split("==") for text in environment["dependencies"][-1]["pip"])
    tested = pins()
    assert {key: tested[key] for key in wanted} == wanted
    assert ("torch" in wanted) == (name == "segbench")


def test_every_dependency_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    named = [*project["dependencies"], *(text for extra in extras for text in extra)]
    names = {re.split(r"[<>=]", text)[0].lower() for text in named}
    assert names <= pins().keys()


def test_one_version():
    assert f"version: {__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_tree_is_small_text():
    git = ["git", "-C", str(ROOT), "ls-files", "-z"]
    done = subprocess.run(git, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in done.stdout.split("\0") if name]
    files = [path for path in files if path.is_file()]
    large = [path.name for path in files if path.stat().st_size > 600_000]
    foreign = [p.name for p in files if p.suffix in {".pth", ".pt", ".safetensors", ".whl", ".zip"}]
    minified = [path.name for path in files if path.name.endswith((".min.js", ".min.css"))]
    assert (large, foreign, minified) == ([], [], [])
