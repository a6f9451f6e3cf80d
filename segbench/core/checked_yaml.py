"""Checked YAML: pydantic models whose every mistake is named with file, line and key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from segbench.core.errors import ConfigError, did_you_mean
from segbench.core.yaml_reader import read_yaml_file

Model = TypeVar("Model", bound=BaseModel)
_SHOWN = 60
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


class Strict(BaseModel):
    """Base of every configuration model: unknown keys, infinity and NaN are refused.

    Values never change.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False
    )


def parse(model: type[Model], values: Mapping[str, Any], source: str) -> Model:
    """Check plain values against a configuration model; ``source`` is named in errors."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = [_describe(item, model) for item in _mistakes(error)]
        raise ConfigError("\n".join(f"{source}: {text}" for text in problems)) from None


def load_yaml(path: Path, model: type[Model]) -> Model:
    """Read and check a YAML file as a configuration model.

    Raises:
        ConfigError: Naming file, line, key and the nearest right name.
    """
    document = read_yaml_file(path)
    values, node = document.values, document.node
    if not isinstance(values, dict) or node is None:
        raise ConfigError(f"{path}: expected keys and values, found {type(values).__name__}")
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = [
            f"{path}:{_line(node, _place(item))}: {_describe(item, model)}"
            for item in _mistakes(error)
        ]
        raise ConfigError("\n".join(lines)) from None


def key_line(path: Path, *location: int | str) -> int:
    """Return the 1-based line on which a key of a valid YAML file stands."""
    node = read_yaml_file(path).node
    return 1 if node is None else _line(node, location)


def _mistakes(error: ValidationError) -> list[dict[str, Any]]:
    """Return what pydantic found, the missing entries of a list as one mistake of the list."""
    mistakes: dict[Any, dict[str, Any]] = {}
    for item in error.errors():
        place = item["loc"]
        if item["type"] == "missing" and place and isinstance(place[-1], int):
            wanted, place = place[-1] + 1, place[:-1]
            message = f"expected {wanted} values, found {len(item['input'])}"
            mistakes[place, "short"] = {**item, "type": "short", "loc": place, "msg": message}
            continue
        for message in item["msg"].removeprefix("Value error, ").splitlines():
            mistakes[place, message] = {**item, "msg": message}
    return list(mistakes.values())


def _place(item: Mapping[str, Any]) -> tuple[int | str, ...]:
    """Return where a mistake is; one of several keys together is where its first word stands."""
    location: tuple[int | str, ...] = item["loc"]
    return location or tuple(re.findall(r"\w+", item["msg"])[:1])


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
            if part >= len(node.value):  # an entry that is missing
                break
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
    message = str(item["msg"])
    if not key:
        return message
    found = repr(item["input"])
    found = found if len(found) <= _SHOWN else f"{found[: _SHOWN - 3]}..."
    return f"{key}: {message} (found {found})"


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
