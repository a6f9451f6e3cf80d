"""Texts of a site without paths, users and hosts of the machine that made them.

Folders that are known (results, home, checkout, environment, temporary files) become their role,
as ``<home>/weights.pth``; of every other absolute path the last part is left. A user or host name
that is also a word of segbench's own text (``root``, ``train``) is cut out only where it can be
nothing else, as in ``root@node``; others wherever they stand alone.
"""

from __future__ import annotations

import getpass
import os
import re
import socket
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from segbench.report.assets import report_sources

_PART = r"[^\s/\"'`<>|:;,()\[\]{}\\]+"
_HOMES = re.compile(rf"/(?:home|Users)/{_PART}(?![\w-])")
_BELOW_HOME = re.compile(rf"<home>(?:/{_PART})*/({_PART})")
_ABSOLUTE = re.compile(rf"\b(?:https?|ftp|s3)://\S+|(?<![\w.~>/+%-])/(?!/)(?:{_PART}/)+({_PART})?")
"""An absolute path, or the address of a web page, which is none."""
_FILE_URL = re.compile(rf"file://+(?:{_PART}/)*({_PART})?")
_QUOTED = re.compile(r"([\"'`])/(?:[^\"'`\n/]+/)+([^\"'`\n/]*)\1")
_NODES = re.compile(
    r"(?<=\bON )[\w.-]+(?= CANCELLED)|(?<=\bsrun: error: )[\w.\[\],-]+(?=: task)"
    r"|(?<=\bslurmstepd: error: )[\w.-]+(?=: )"
)
"""Names of nodes where Slurm writes them."""
_BEFORE, _BEHIND = r"(?<![A-Za-z0-9_])", r"(?![A-Za-z0-9_])"
"""A name stands alone between these."""
Rule = tuple[re.Pattern[str], Callable[[re.Match[str]], str]]
_KEPT = frozenset(
    {"dataset", "experiment", "split", "task", "kind", "status", "run_folder", "logs", "counts"}
    | {"model", "protocol", "id", "sha256", "digest", "digests"}
)
"""Keys whose texts name files of the results folder, or nothing of this machine."""


@dataclass(frozen=True)
class Cleaner:
    """Takes the traces of a machine out of texts.

    Args:
        folders: Absolute folders, each with the word that stands for it.
        users: Names of the user.
        hosts: Names of the machine.
    """

    folders: tuple[tuple[str, str], ...]
    users: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()

    @classmethod
    def of_this_machine(cls, results: Iterable[Path]) -> Cleaner:
        """Return the cleaner of texts that this process, or one like it, wrote."""
        return cls(tuple(_folders(results)), tuple(_users()), tuple(_hosts()))

    def text(self, text: str) -> str:
        """Return a text without the traces."""
        if self._trigger.search(text):
            for pattern, word in self._rules:
                text = pattern.sub(word, text)
        return text

    def value(self, value: Any) -> Any:
        """Return a JSON value whose texts are clean; names of files in a table are kept."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list | tuple):
            return [self.value(each) for each in value]
        if isinstance(value, dict):
            return {
                self.text(key) if key.startswith("/") else key: (
                    each if key in _KEPT and _is_plain(each) else self.value(each)
                )
                for key, each in value.items()
            }
        return value

    @cached_property
    def _trigger(self) -> re.Pattern[str]:
        """What a text must hold for any rule to apply: most texts hold nothing of it."""
        names = [re.escape(name) for name in (*self.users, *self.hosts)]
        return re.compile("|".join(["/", "~", "CANCELLED", "error: ", *names]), re.IGNORECASE)

    @cached_property
    def _rules(self) -> list[Rule]:
        longest = sorted(dict(reversed(self.folders)).items(), key=lambda pair: -len(pair[0]))
        known = [_folder_rule(folder, word) for folder, word in longest]
        rest: list[Rule] = [
            (_HOMES, _constant("<home>")),
            (_BELOW_HOME, lambda match: f"<home>/{match[1]}"),
            (_QUOTED, _last_quoted),
            (_FILE_URL, _last),
            (_ABSOLUTE, _last_of_path),
            (_NODES, _constant("<node>")),
        ]
        users = [rule for name in self.users for rule in _user_rules(name)]
        hosts = [rule for name in self.hosts for rule in _host_rules(name)]
        return [*known, *rest, *hosts, *users]


def _constant(word: str) -> Callable[[re.Match[str]], str]:
    return lambda _: word


def _last(match: re.Match[str]) -> str:
    return f"<path>/{match[1] or ''}"


def _last_of_path(match: re.Match[str]) -> str:
    return _last(match) if match[0].startswith("/") else match[0]


def _last_quoted(match: re.Match[str]) -> str:
    return f"{match[1]}<path>/{match[2]}{match[1]}"


def _is_plain(value: Any) -> bool:
    """Say whether a kept value is one text, or a list of texts, that is no absolute path."""
    texts = value if isinstance(value, list) else [value]
    return all(not isinstance(text, str) or not text.startswith(("/", "~")) for text in texts)


def _folder_rule(folder: str, word: str) -> Rule:
    """Return the rule of a known folder; a short one must not begin inside a longer path."""
    begin = r"(?<![\w.>-])" if folder.count("/") == 1 else ""
    return re.compile(rf"(?:file://)?{begin}{re.escape(folder)}(?![\w-]|\.\w)"), _constant(word)


def _user_rules(name: str) -> Iterator[Rule]:
    escaped = re.escape(name)
    yield re.compile(rf"(?<![\w.-]){escaped}@(?=\w|<)"), _constant("<user>@")
    yield re.compile(rf"~{escaped}{_BEHIND}"), _constant("~")
    yield _labelled(r"\buser(?:name)?\s*[:=]\s*", escaped, "<user>")
    if not _is_word(name):
        yield re.compile(f"{_BEFORE}{escaped}{_BEHIND}", re.IGNORECASE), _constant("<user>")


def _host_rules(name: str) -> Iterator[Rule]:
    escaped = re.escape(name)
    yield re.compile(rf"[\w.-]+@{escaped}{_BEHIND}", re.IGNORECASE), _constant("<user>@<host>")
    yield _labelled(r"\b(?:host|hostname|node)(?:\s*[:=]\s*|\s+)", escaped, "<host>")
    if not _is_word(name):
        yield re.compile(f"{_BEFORE}{escaped}{_BEHIND}", re.IGNORECASE), _constant("<host>")


def _labelled(label: str, name: str, word: str) -> Rule:
    """Return the rule of a name behind what says that it is one."""
    pattern = re.compile(rf"({label}[\"']?){name}{_BEHIND}", re.IGNORECASE)
    return pattern, lambda match: f"{match[1]}{word}"


def _is_word(name: str) -> bool:
    """Say whether a name is also a word that segbench's own texts use, or too short for one."""
    if len(name) < 3:
        return True
    pattern = re.compile(rf"(?<![a-z0-9]){re.escape(name.lower())}(?![a-z0-9])")
    sources = [*Path(__file__).parents[1].rglob("*.py"), *report_sources()]
    return any(
        pattern.search(path.read_text(encoding="utf-8", errors="replace").lower())
        for path in sources
    )


def _folders(results: Iterable[Path]) -> Iterator[tuple[str, str]]:
    import site

    known = [(path, "<results>") for path in results]
    known += [(Path(__file__).parents[2], "<segbench>"), (Path.cwd(), "<folder>")]
    known += [(Path(each), "<python>") for each in (sys.prefix, sys.base_prefix, sys.exec_prefix)]
    known += [(Path(each), "<python>") for each in site.getsitepackages()]
    known += [(Path(tempfile.gettempdir()), "<tmp>"), (_home(), "<home>")]
    for path, word in known:
        for form in (path.absolute(), _resolved(path)):
            if len(form.parts) > 1:
                yield str(form), word


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:
        return Path("/")


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):
        return path.absolute()


def _users() -> list[str]:
    names = [os.environ.get(key, "") for key in ("USER", "LOGNAME", "USERNAME", "SUDO_USER")]
    with suppress(KeyError, OSError):  # a user without a name
        names.append(getpass.getuser())
    names.append(_home().name)
    return [name for name in dict.fromkeys(names) if name]


def _hosts() -> list[str]:
    names = [socket.gethostname(), os.uname().nodename]
    names += [os.environ.get(key, "") for key in ("HOSTNAME", "SLURMD_NODENAME")]
    whole = [name for name in dict.fromkeys(names) if name and name != "localhost"]
    return list(dict.fromkeys([*whole, *(name.split(".")[0] for name in whole)]))
