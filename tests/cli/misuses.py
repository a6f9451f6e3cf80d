"""Wrong command lines made at random: a right one of each command, with mistakes put in."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from segbench.cli import COMMANDS, cli

JUNK: dict[str, bytes] = {
    "empty": b"",
    "zeros": b"\0" * 300,
    "noise": random.Random(1).randbytes(2000),
    "text": "grüße, 1 2 3\n".encode("latin-1"),
    "number": b"3",
    "list": b"[1, {}, null]",
    "object": b"{}",
    "null": b"null",
    "deep": b"[" * 100_000,
    "deep yaml": b"{a: " * 3000,
    "huge number": b'{"schema": ' + b"9" * 6000 + b"}",
    "nan": b'{"schema": NaN, "records": [NaN]}',
    "keys": b"a: 1\nb: [x, {c: 2}]\n",
    "tag": b"!!python/object/apply:os.getpid []\n",
    "half png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xff\xff\0\0\xff\xff\x08\0\0\0\0",
    "half zip": b"PK\x03\x04" + b"\0" * 80,
    "safetensors": (1 << 60).to_bytes(8, "little") + b"{}",
    "pickle": b"\x80\x04cos\nsystem\n.",
}
TEXTS = (
    "", " ", "x", "-1", "0", "1e400", "nan", "9" * 400, "a=b=c", "=", "k=[", "train=x", "train=-5",
    "size=1e9", "val=0", "../..", "/", "<b>", "é", os.fsdecode(b"\xff\xfe"), "a" * 5000, "80+53+1",
    "cuda:99", "cuda:x", "meta", "0x0", "99999999x99999999", "no\nline", "%s", "{}", "*",
)  # fmt: skip
NUMBERS = ("-1", "0", "x", "1.5", "9" * 30, "", "nan", "1e3", "0x10")
VALUES: tuple[Any, ...] = (None, -1, 0, 1e308, 2**70, "", "x" * 999, [], [[]], {}, {"a": 1}, True)


@dataclass(frozen=True)
class Case:
    """A command line and what is wrong with it."""

    arguments: tuple[str, ...]
    mistakes: tuple[str, ...]


def hostile_paths(folder: Path) -> dict[str, str]:
    """Make what a path can be that is not what a command wants; no permission needs changing."""
    made = folder / "hostile"
    made.mkdir()
    (made / "folder").mkdir()
    (made / "file").write_text("text\n")
    (made / "nowhere").symlink_to(made / "gone" / "away")
    (made / "loop").symlink_to(made / "loop")
    strange = os.fsdecode(os.fsencode(made) + b"/\xff\xfe")
    Path(strange).mkdir()
    for name, content in JUNK.items():
        suffix = random.Random(name).choice([".json", ".yaml", ".png", ".safetensors", ""])
        (made / f"{name}{suffix}").write_bytes(content)
    names = {path.name.encode("utf-8", "replace").decode(): str(path) for path in made.iterdir()}
    return names | {
        "missing": str(made / "missing"),
        "below a file": str(made / "file" / "below"),
        "long": str(made / ("x" * 300)),
        "longer": "/".join(["y" * 200] * 30),
        "empty path": "",
        "no memory": "/proc/self/mem",
        "no folder of processes": "/proc/nothing/here",
        "system": "/sys/kernel/none",
        "null": "/dev/null",
        "strange file": f"{strange}/file",
    }


class Misuses:
    """Random misuses from right command lines.

    Args:
        base: Folder of right inputs; it is copied before anything in it is broken.
        right: A right command line of each command, with ``{base}`` and ``{new}`` for folders.
        folder: Where the cases work.
        seed: Decides every case.
    """

    def __init__(self, base: Path, right: dict[str, list[str]], folder: Path, *, seed: int) -> None:
        self.base, self.right, self.folder = base, right, folder
        self.random = random.Random(seed)
        self.paths = hostile_paths(folder)

    def cases(self, number: int) -> Iterator[Case]:
        """Yield cases, each command in turn; a case is made when it is asked for."""
        for k in range(number):
            yield self._case(list(COMMANDS)[k % len(COMMANDS)], self.folder / f"case{k}")

    def _case(self, command: str, work: Path) -> Case:
        work.mkdir()
        words = list(self.right[command])
        mistakes: list[str] = []
        kinds = [self._replace, self._replace, self._drop, self._add, self._break, self._break]
        chosen = [self.random.choice(kinds) for _ in range(self.random.choice([1, 1, 2]))]
        for change in sorted(chosen, key=lambda kind: kind == self._break):
            mistakes.append(change(command, words, work))
        fields = {"{base}": str(self.base), "{new}": str(work)}
        if (work / "base").exists():
            fields["{base}"] = str(work / "base")
        for mark, value in fields.items():
            words = [word.replace(mark, value) for word in words]
        return Case((command, *words), tuple(mistakes))

    def _parameters(self, command: str) -> list[click.Parameter]:
        context = click.Context(cli)
        found = cli.get_command(context, command)
        assert found is not None
        return found.params

    def _wrong(self, parameter: click.Parameter) -> str:
        if isinstance(parameter.type, click.Path):
            return self.paths[self.random.choice(sorted(self.paths))]
        number = isinstance(parameter.type, click.IntRange | type(click.FLOAT))
        return self.random.choice(NUMBERS if number else (*TEXTS, *self.paths.values()))

    def _replace(self, command: str, words: list[str], work: Path) -> str:
        """Give a parameter of the command a wrong value."""
        options = [p for p in self._parameters(command) if self._takes_a_value(p)]
        parameter = self.random.choice(options)
        value = self._wrong(parameter)
        if isinstance(parameter, click.Argument):
            places = [k for k, word in enumerate(words) if not k or not word.startswith("-")]
            place = places[0] if places else len(words)
            words[place : place + 1] = [value]
        else:
            name = parameter.opts[0]
            if name in words:
                place = words.index(name) + 1
                words[place : place + 1] = [value]
            else:
                words += [name, value]
        return f"{parameter.name}={value[:60]!r}"

    @staticmethod
    def _takes_a_value(parameter: click.Parameter) -> bool:
        return not getattr(parameter, "is_flag", False) and parameter.name != "snakemake_options"

    def _drop(self, command: str, words: list[str], work: Path) -> str:
        if not words:
            words.append("--nothing")
            return "unknown option"
        return f"without {words.pop(self.random.randrange(len(words)))}"

    def _add(self, command: str, words: list[str], work: Path) -> str:
        word = self.random.choice(["--nothing", "-x", "extra", "--", "--out", "--json=1", "-h=3"])
        words.insert(self.random.randrange(len(words) + 1), word)
        return f"with {word}"

    def _break(self, command: str, words: list[str], work: Path) -> str:
        """Copy the right inputs and break one of them that the command names."""
        copied = work / "base"
        if not copied.exists():
            shutil.copytree(self.base, copied, symlinks=True)
        named = [copied / w.removeprefix("{base}/") for w in words if w.startswith("{base}/")]
        named = [path for path in named if path.exists()]
        if not named:
            return self._replace(command, words, work)
        place = self.random.choice(named)
        files = [place]
        if place.is_dir():
            files = sorted(path for path in place.rglob("*") if path.is_file())
            top = [file for file in files if file.parent == place]
            files = top if top and self.random.random() < 0.7 else files
        if not files:
            shutil.rmtree(place)
            return f"{place.relative_to(copied)} is gone"
        file = self.random.choice(files)
        ways: list[Callable[[Path], str]] = [self._fill, self._cut, self._edit, self._exchange]
        return f"{file.relative_to(copied)} {self.random.choice(ways)(file)}"

    def _fill(self, file: Path) -> str:
        name = self.random.choice(sorted(JUNK))
        file.write_bytes(JUNK[name])
        return f"is {name}"

    def _cut(self, file: Path) -> str:
        content = file.read_bytes()
        file.write_bytes(content[: self.random.randrange(len(content) + 1)])
        return "is cut"

    def _exchange(self, file: Path) -> str:
        """Put a folder, nothing, or a link in a file's place."""
        way = self.random.choice(["folder", "nothing", "loop"])
        file.unlink()
        if way == "folder":
            file.mkdir()
        elif way == "loop":
            file.symlink_to(file)
        return f"is a {way}"

    def _edit(self, file: Path) -> str:
        """Change one value of a JSON file, or one byte of another."""
        if file.suffix != ".json":
            content = bytearray(file.read_bytes())
            if content:
                content[self.random.randrange(len(content))] ^= 1 << self.random.randrange(8)
            file.write_bytes(bytes(content))
            return "has another bit"
        value = json.loads(file.read_text())
        path = self._spoil(value)
        file.write_text(json.dumps(value))
        return f"has another {path}"

    def _spoil(self, value: Any) -> str:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return "nothing"
        key = self.random.choice(keys)
        inner = value[key]
        if isinstance(inner, dict | list) and inner and self.random.random() < 0.7:
            return f"{key}.{self._spoil(inner)}"
        if self.random.random() < 0.3:
            del value[key]
            return f"{key} (removed)"
        value[key] = self.random.choice(VALUES)
        return f"{key} ({value[key]!r:.20})"
