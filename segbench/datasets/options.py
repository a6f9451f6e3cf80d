"""Options of a dataset that is generated, checked without reading or making an image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from segbench.core.errors import ConfigError, did_you_mean
from segbench.core.types import DatasetInfo
from segbench.datasets.registry import dataset_module


def resolve_options(info: DatasetInfo, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return every option with its value; the default's type is the type of an option.

    Raises:
        ConfigError: Naming every unknown option and every value of a wrong type.
    """
    mistakes = list(_mistakes(info, options))
    if mistakes:
        known = ", ".join(info.options) or "none"
        raise ConfigError("\n".join(mistakes), fix=f"its options: {known}")
    merged = {**info.options, **options}
    return {k: float(v) if type(info.options[k]) is float else v for k, v in merged.items()}


def _mistakes(info: DatasetInfo, options: Mapping[str, Any]) -> Iterator[str]:
    for key, value in options.items():
        if key not in info.options:
            yield f"dataset '{info.name}' has no option '{key}'.{did_you_mean(key, info.options)}"
            continue
        expected = type(info.options[key])
        if type(value) is not expected and not (expected is float and type(value) is int):
            yield (
                f"dataset '{info.name}', option '{key}': expected {expected.__name__}, "
                f"found {value!r}"
            )


def check_options(info: DatasetInfo, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return every option, after the dataset's own check of their values (``check_options``).

    Raises:
        ConfigError: Naming the option, what it may be and what was found.
    """
    resolved = resolve_options(info, options)
    own = getattr(dataset_module(info.name), "check_options", None)
    if own is not None:
        own(resolved)
    return resolved
