"""Every command line and configuration that the documentation shows is one that exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from segbench.cli import cli
from segbench.workflow.plan import load_plan

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LINE = re.compile(r"^(?: {4,}|\t)segbench (\S.*)$", re.MULTILINE)


def shown() -> list[str]:
    """Return the command lines of all pages, continuations joined."""
    texts = [page.read_text(encoding="utf-8").replace("\\\n", " ") for page in PAGES]
    return sorted({line for text in texts for line in LINE.findall(text)})


def test_there_are_commands_to_look_at() -> None:
    assert len(shown()) > 15


@pytest.mark.parametrize("line", shown())
def test_a_shown_command_has_only_options_that_exist(line: str) -> None:
    words = shlex.split(line, comments=True)
    context = click.Context(cli, info_name="segbench")
    while True:  # down to the last sub-command, as `models show`
        command = context.command
        if not isinstance(command, click.Group) or not words or words[0].startswith("-"):
            break
        found = command.get_command(context, words[0])
        if found is None:
            break
        words = words[1:]
        context = click.Context(found, parent=context, info_name=found.name)
    context.command.make_parser(context).parse_args(list(words))


def test_the_configuration_of_the_readme_is_a_plan(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```yaml\n# my\.yaml[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    config = tmp_path / "my.yaml"
    config.write_text(f"experiments_folder: {ROOT / 'workflow' / 'experiments'}\n{block}")
    plan = load_plan(config, results=tmp_path / "results")
    assert {cell.seed for cell in plan.cells if cell.is_trained} == {0, 1, 2}
