"""Whatever a YAML file holds, reading it ends soon: in values, or in one line that names it."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from segbench.cli.download import parse_options
from segbench.core.errors import ConfigError
from segbench.core.yaml_reader import MAX_BYTES, MAX_DEPTH, MAX_NODES, read_yaml, read_yaml_file
from segbench.datasets.custom import load_custom
from segbench.training.recipe import load_recipe
from segbench.workflow.config import load_config, load_submission
from segbench.workflow.slurm import _settings


def laughs(levels: int, width: int) -> str:
    """Return aliases of aliases that stand for ``width ** levels`` values."""
    lines = [f"a0: &a0 [{', '.join('x' * width)}]"]
    for i in range(1, levels):
        lines.append(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]")
    return "\n".join(lines) + "\n"


HOSTILE = {
    "nested aliases": (laughs(12, 9), "values, those of aliases included"),
    "nested aliases of mappings": (
        "a: &a {x: 1, y: 2}\n"
        + "".join(
            f"{n}: &{n} {{p: *{m}, q: *{m}, r: *{m}}}\n"
            for m, n in zip("abcdefghijklm", "bcdefghijklmn", strict=True)
        ),
        "values, those of aliases included",
    ),
    "nested merge keys": (
        "a: &a {x: 1}\n"
        + "".join(
            f"{n}: &{n} {{<<: [{', '.join([f'*{m}'] * 9)}]}}\n"
            for m, n in zip("abcdefgh", "bcdefghi", strict=True)
        ),
        "values, those of aliases included",
    ),
    "an alias in itself": ("runs: &a [*a]\n", "stands inside what it stands for"),
    "an alias in its mapping": ("runs: &a {b: {c: *a}}\n", "stands inside what it stands for"),
    "an alias in its merge": ("runs: &a {<<: *a}\n", "stands inside what it stands for"),
    "an alias as a key of itself": ("&a ? *a : 1\n", ""),
    "an alias of nothing": ("runs: *a\n", "undefined alias"),
    "a chain of deep aliases": (
        "".join(
            f"a{i}: &a{i} {'[' * 20}{f'*a{i - 1}' if i else 1}{']' * 20}\n" for i in range(4)
        ),
        f"nested more than {MAX_DEPTH} deep",
    ),
    "deep lists": ("runs: " + "[" * 3000 + "]" * 3000, f"nested more than {MAX_DEPTH} deep"),
    "deep mappings": ("{a: " * 3000 + "1" + "}" * 3000, f"nested more than {MAX_DEPTH} deep"),
    "deep block lists": ("runs:\n  " + "- " * 2000 + "1\n", f"nested more than {MAX_DEPTH} deep"),
    "deep and not closed": ("runs: " + "[" * 3000, "nested more than"),
    "many values": ("runs: [" + "1," * (MAX_NODES + 1) + "]", "more than 50,000 values"),
    "a key twice": ("a: 1\nb: 2\na: 3\n", "'a' is given twice"),
    "a key twice inside": ("a: [{b: 1, b: 2}]\n", "'b' is given twice"),
    "a number as key": ("3: 1\n", "a key must be text, this is a int"),
    "a truth value as key": ("yes: 1\n", "put it in quotes: 'yes'"),
    "nothing as key": ("~: 1\n", "a key must be text, this is a null"),
    "a date as key": ("2020-01-01: 1\n", "a key must be text, this is a date"),
    "a list as key": ("? [a, b]\n: 1\n", "a key must be text, this is a list"),
    "a mapping as key": ("? {a: b}\n: 1\n", "a key must be text, this is a mapping"),
    "a tab": ("a:\n\tb: 1\n", "not valid YAML"),
    "a NUL": ("a: 1\nb: \0\n", ":2: not valid YAML: the character U+0000 is not allowed"),
    "a control character": ("a: \x1b[2J\n", "U+001B is not allowed"),
    "two documents": ("a: 1\n---\nb: 2\n", "not valid YAML"),
    "an integer of 5,000 digits": ("a: " + "9" * 5000, "is no int"),
    "an integer of 300 digits": ("a: " + "9" * 300, "an integer of more than 64 bits"),
    "a hexadecimal flood": ("a: 0x" + "f" * 5000, "an integer of more than 64 bits"),
    "a date that is none": ("a: 2020-99-99\n", "is no date"),
    "a tag on no number": ("a: !!int many\n", "'many' is no int"),
    "a tag on no truth value": ("a: !!bool maybe\n", "is no true or false"),
    "a Python tag": ("a: !!python/object/apply:os.system ['true']\n", "tag"),
    "a tag of one's own": ("a: !mine 3\n", "the tag !mine is not allowed"),
    "a set": ("a: !!set {b, c}\n", "the tag !!set is not allowed"),
    "octets": ("a: !!binary aGVsbG8=\n", "the tag !!binary is not allowed"),
    "pairs": ("a: !!omap [b: 1]\n", "the tag !!omap is not allowed"),
    "a merge of a number": ("a: {<<: 3}\n", "not valid YAML"),
    "a directive of another version": ("%YAML 9.0\n---\na: 1\n", "not valid YAML"),
    "an open quote": ("a: 'b\n", "not valid YAML"),
    "a lonely percent sign": ("a: %b\n", "not valid YAML"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_text_is_one_line(kind):
    text, words = HOSTILE[kind]
    with pytest.raises(ConfigError) as caught:
        read_yaml(text, "file.yaml")
    assert str(caught.value).startswith("file.yaml:")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("load", [load_config, load_recipe, load_submission, load_custom])
def test_every_file_of_a_user_is_read_with_bounds(tmp_path, load, kind):
    path = tmp_path / "file.yaml"
    path.write_text(HOSTILE[kind][0])
    with pytest.raises(ConfigError, match=r"file\.yaml:\d+: "):
        load(path)


@pytest.mark.parametrize("kind", ["nested aliases", "deep lists", "an alias in itself"])
def test_options_and_profiles_are_read_with_bounds(tmp_path, kind):
    with pytest.raises(ConfigError, match="--option size:"):
        parse_options((f"size={HOSTILE[kind][0]}",))
    path = tmp_path / "config.yaml"
    path.write_text(HOSTILE[kind][0])
    with pytest.raises(ConfigError, match=r"config\.yaml:\d+: "):
        _settings(path)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", None),
        ("# nothing\n", None),
        ("\ufeffa: 1\n", {"a": 1}),
        ("a: &x [1, 2]\nb: *x\nc: [*x, *x]\n", {"a": [1, 2], "b": [1, 2], "c": [[1, 2]] * 2}),
        ("a: &x {p: 1}\nb: {<<: *x, q: 2}\n", {"a": {"p": 1}, "b": {"p": 1, "q": 2}}),
        ("'3': x\n", {"3": "x"}),
        ("a: -9223372036854775807\n", {"a": -(2**63) + 1}),
        ("a: 1.5e+3\nb: .5\nc: ~\nd: no\n", {"a": 1500.0, "b": 0.5, "c": None, "d": False}),
    ],
)
def test_plain_text_is_read(text, values):
    assert read_yaml(text, "file.yaml").values == values


def test_files_that_are_no_text(tmp_path):
    (tmp_path / "large.yaml").write_text("a: " + "x" * MAX_BYTES)
    (tmp_path / "wide.yaml").write_bytes("a: 1\n".encode("utf-16"))
    (tmp_path / "folder.yaml").mkdir()
    os.mkfifo(tmp_path / "pipe.yaml")
    names = ("large", "wide", "folder", "pipe", "absent", "x" * 300)
    for path in [tmp_path / f"{name}.yaml" for name in names] + [Path("/dev/zero")]:
        with pytest.raises(ConfigError) as caught:
            read_yaml_file(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_command_line_ends_with_2(tmp_path):
    from segbench.cli import cli

    path = tmp_path / "bomb.yaml"
    path.write_text(HOSTILE["nested aliases"][0])
    result = CliRunner().invoke(cli, ["collect", "--config", str(path)])
    assert isinstance(result.exception, ConfigError)
    assert result.exception.exit_code == 2
