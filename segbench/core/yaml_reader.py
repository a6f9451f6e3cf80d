"""YAML with bounds: whatever a file holds, reading it ends soon, in values or in one line.

An alias counts as all it stands for, so nested aliases ("billion laughs") reach the bound as fast
as a long file; an alias inside what it stands for is refused. Keys are text and stand once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from segbench.core.errors import ConfigError, did_you_mean

MAX_BYTES = 1_000_000
MAX_NODES = 50_000
"""Values of one file, with all that its aliases stand for; 254 classes with all keys are 3,000."""
MAX_DEPTH = 32
_INTEGER_BOUND = 2**63
_SHOWN = 60
_TAG = "tag:yaml.org,2002:"
_PLAIN = frozenset(
    _TAG + kind
    for kind in ("str", "int", "float", "bool", "null", "seq", "map", "merge", "timestamp")
)


@dataclass(frozen=True)
class Document:
    """What a YAML text says: plain values, and the nodes that know their lines."""

    values: Any
    node: yaml.Node | None


def read_yaml_file(path: Path) -> Document:
    """Read a YAML file of one document.

    Raises:
        ConfigError: Naming the file and line, in one line.
    """
    return read_yaml(_read_text(path), str(path))


def read_yaml(text: str, source: str) -> Document:
    """Read a text of one YAML document; ``source`` is named in errors.

    Raises:
        ConfigError: It is not valid YAML, nested too deeply, too large, or a key stands twice.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return Document(None, None)
        _check_nodes(node)
        return Document(loader.construct_document(node), node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = "" if mark is None else f":{mark.line + 1}"
        what = " ".join(str(error.problem or error.context).split())
        raise ConfigError(f"{source}{line}: {_words(error)}{what}") from None
    except yaml.reader.ReaderError as error:
        place = text.count("\n", 0, int(error.position)) + 1
        code = f"U+{int(error.character):04X}"
        raise ConfigError(
            f"{source}:{place}: not valid YAML: the character {code} is not allowed"
        ) from None


class Bound(yaml.MarkedYAMLError):
    """Something that YAML allows and segbench does not."""


def _words(error: yaml.MarkedYAMLError) -> str:
    return "" if isinstance(error, Bound) else "not valid YAML: "


class _Loader(yaml.SafeLoader):
    """A safe loader that counts what it composes."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._nodes = self._height = 0
        self._sizes: dict[yaml.Node, tuple[int, int]] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose a node; its size and height, aliases included, stay within the bounds."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        alias = isinstance(event, yaml.AliasEvent)
        nodes, height, self._height = self._nodes, self._height, 0
        self._depth += 1
        self._bound(event, self._depth)
        node = super().compose_node(parent, index)
        assert node is not None
        if alias and node not in self._sizes:
            raise _fault(event, f"the alias *{event.anchor} stands inside what it stands for")
        if not alias:
            self._sizes[node] = self._nodes - nodes + 1, self._height + 1
        size, own = self._sizes[node]
        self._nodes, self._height = nodes + size, max(height, own)
        self._depth -= 1
        self._bound(event, self._depth + own)
        return node

    def _bound(self, event: Any, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise _fault(event, f"nested more than {MAX_DEPTH} deep")
        if self._nodes > MAX_NODES:
            raise _fault(event, f"more than {MAX_NODES:,} values, those of aliases included")

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Make the value of a node; what cannot be one is named with its line."""
        try:
            value = super().construct_object(node, deep=deep)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
            raise _fault(node, f"{_shown(node.value)} is no {_kind(node)}") from None
        if isinstance(value, int) and abs(value) >= _INTEGER_BOUND:
            raise _fault(node, f"{_shown(node.value)} is an integer of more than 64 bits")
        return value


def _check_nodes(root: yaml.Node) -> None:
    """Refuse tags that are no plain value, keys that are no text, and a key given twice."""
    todo, seen = [root], {root}
    while todo:
        node = todo.pop()
        if node.tag not in _PLAIN:
            raise _fault(node, f"the tag {node.tag.replace(_TAG, '!!')} is not allowed")
        children = _children(node)
        todo += [child for child in reversed(children) if child not in seen]
        seen.update(children)


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        return list(node.value)
    if not isinstance(node, yaml.MappingNode):
        return []
    seen: set[str] = set()
    for key, _ in node.value:
        if key.tag not in (_TAG + "str", _TAG + "merge"):
            quoted = f"; put it in quotes: '{key.value}'" if _is_short(key) else ""
            raise _fault(key, f"a key must be text, this is a {_kind(key)}{quoted}")
        if key.value in seen:
            raise _fault(key, f"'{key.value}' is given twice")
        seen.add(key.value)
    return [value for _, value in node.value]


def _is_short(key: yaml.Node) -> bool:
    return isinstance(key.value, str) and 0 < len(key.value) <= _SHOWN


def _fault(where: Any, problem: str) -> Bound:
    return Bound(None, None, problem, where.start_mark)


def _kind(node: yaml.Node) -> str:
    names = {"seq": "list", "map": "mapping", "bool": "true or false", "timestamp": "date"}
    kind = node.tag.removeprefix(_TAG)
    return names.get(kind, kind)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _read_text(path: Path) -> str:
    try:
        if not path.exists():
            near = [p.stem for p in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
            raise ConfigError(f"{path} does not exist.{did_you_mean(path.stem, near)}")
        if not path.is_file():
            raise ConfigError(f"{path} cannot be read: it is a folder or a special file")
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ConfigError(f"{path} is longer than {MAX_BYTES:,} bytes, too long for YAML here")
        return data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
