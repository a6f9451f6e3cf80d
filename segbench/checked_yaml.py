"""Checked YAML: pydantic models whose every mistake is named with file, line and key."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from segbench.errors import ConfigError, did_you_mean

Model = TypeVar("Model", bound=BaseModel)
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


class Strict(BaseModel):
    """Base of every configuration model: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


def parse(model: type[Model], values: Mapping[str, Any], source: str) -> Model:
    """Check plain values against a configuration model; ``source`` is named in errors."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = [_describe(item, model) for item in error.errors()]
        raise ConfigError("\n".join(f"{source}: {text}" for text in problems)) from None


def load_yaml(path: Path, model: type[Model]) -> Model:
    """Read and check a YAML file as a configuration model.

    Raises:
        ConfigError: Naming file, line, key and the nearest right name.
    """
    text = _read_text(path)
    try:
        node = yaml.compose(text)
        values = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date or number that is none
        raise ConfigError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(values, dict) or node is None:
        raise ConfigError(f"{path}: expected keys and values, found {type(values).__name__}")
    _refuse_duplicate_keys(node, path)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = [
            f"{path}:{_line(node, item['loc'])}: {_describe(item, model)}"
            for item in error.errors()
        ]
        raise ConfigError("\n".join(lines)) from None


def line_of(path: Path, key: str) -> int:
    """Return the 1-based line of a top-level key of a YAML file; 1 where it is not given."""
    node = yaml.compose(_read_text(path))
    return 1 if node is None else _line(node, (key,))


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = [p.stem for p in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
        raise ConfigError(f"{path} does not exist.{did_you_mean(path.stem, near)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None


def _refuse_duplicate_keys(node: yaml.Node, path: Path) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                raise ConfigError(f"{path}:{key.start_mark.line + 1}: '{key.value}' is given twice")
            seen.add(key.value)
            _refuse_duplicate_keys(value, path)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_duplicate_keys(value, path)


def _line(node: yaml.Node, location: tuple[int | str, ...]) -> int:
    """Return the 1-based line of a pydantic error location in the YAML source."""
    line = node.start_mark.line
    for part in location:
        if isinstance(node, yaml.MappingNode):
            found = [(k, v) for k, v in node.value if k.value == str(part)]
            if not found:
                break
            line, node = found[0][0].start_mark.line, found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part]
            line = node.start_mark.line
    return line + 1


def _describe(item: Mapping[str, Any], model: type[BaseModel]) -> str:
    location = item["loc"]
    key = ".".join(str(part) for part in location)
    if item["type"] == "extra_forbidden":
        known = _known_keys(model, location[:-1])
        return f"unknown key '{key}'.{did_you_mean(str(location[-1]), known)}"
    if item["type"] == "missing":
        return f"the key '{key}' is missing"
    message = item["msg"].removeprefix("Value error, ")
    return f"{key}: {message} (found {item['input']!r})" if key else message


def _known_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Return the keys that would be right where the unknown one stands."""
    current: Any = model
    for part in location:
        if isinstance(part, str) and part in getattr(current, "model_fields", {}):
            current = _inner_model(current.model_fields[part].annotation)
    return list(getattr(current, "model_fields", {}))


def _inner_model(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _inner_model(argument)
        if found is not None:
            return found
    return None
