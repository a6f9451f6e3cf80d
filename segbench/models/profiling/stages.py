"""An architecture stage by stage: output stride, receptive field, parameters, multiply-adds."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from segbench.models.profiling.costs import count_macs_by_module, count_parameters
from segbench.models.profiling.receptive_field import receptive_fields
from segbench.models.registry import builder_of, create_model, model_info

CONTAINERS = (nn.ModuleList, nn.ModuleDict)
LARGE_SHARE = 0.5
"""A module with more than this share of the parameters is shown by its parts."""


def describe_model(
    model_id: str, classes: Sequence[int], *, input_size: tuple[int, int]
) -> dict[str, Any]:
    """Return what ``segbench models show`` prints.

    Args:
        model_id: A registered id.
        classes: What its builder takes.
        input_size: Height and width of the image for which multiply-adds are counted.

    Returns:
        ``params``, ``gmacs``, ``options`` and ``stages``, one row a stage in the order they
        run: ``stage``, ``channels``, ``stride``, ``field``, ``offset``, ``params``, ``gmacs``.
        Strides and fields are numbers, or two (rows, columns) where these differ; ``whole``
        is a field that grows with the image, None one that is not known because the stage runs
        in training only or after operations that need values.
    """
    with torch.device("meta"):
        shadow = create_model(model_id, *classes)
    task = model_info(model_id).task
    names = stage_names(shadow)
    parts = {
        name: [f"{name}.{part}" for part, _ in shadow.get_submodule(name).named_children()]
        for name in names
    }
    seen = receptive_fields(shadow, ["", *names, *(one for some in parts.values() for one in some)])
    # A container that is not called itself is shown by its parts.
    shown = [
        one
        for name in names
        for one in ([name] if name in seen or not seen.keys() & set(parts[name]) else parts[name])
    ]
    params = {name: count_parameters(shadow.get_submodule(name)) for name in ["", *shown]}
    # Counting moves the network off the meta device where an operation needs values.
    model = shadow if task == "semantic" else create_model(model_id, *classes)
    macs = count_macs_by_module(model, input_size, task=task)
    order = [n for n in seen if n in shown] + [n for n in shown if n not in seen]
    rows = [
        {
            "stage": name,
            **_place(seen.get(name)),
            "params": params[name]["params"],
            "gmacs": round(macs.get(name, 0) / 1e9, 4),
        }
        for name in order
    ]
    if task == "semantic":
        rows.append({"stage": "(logits)", **_place(seen.get("")), "params": None, "gmacs": None})
    return {
        **params[""],
        "gmacs": round(macs[""] / 1e9, 4),
        "input_size": list(input_size),
        "options": dict(builder_options(model_id)),
        "stages": rows,
    }


def stage_names(model: nn.Module) -> list[str]:
    """Return the modules that are shown: children, and the parts of lists and of large ones."""
    total = count_parameters(model)["params"]
    return [name for name, _ in _stages(model, "", LARGE_SHARE * total)]


def _stages(module: nn.Module, prefix: str, large: float) -> Iterator[tuple[str, nn.Module]]:
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        parts = len(list(child.children()))
        heavy = count_parameters(child)["params"] > large and not isinstance(child, nn.Sequential)
        if parts and (isinstance(child, CONTAINERS) or heavy):
            yield from _stages(child, f"{path}.", large)
        elif not isinstance(child, nn.Identity):
            yield path, child


def _place(stage: Any) -> dict[str, Any]:
    if stage is None:
        return {"channels": None, "stride": None, "field": None, "offset": None}
    rows, columns = ("whole" if side is None else side for side in stage.field)
    return {
        "channels": stage.channels,
        "stride": _one_or_two((_rounded(stage.stride[0]), _rounded(stage.stride[1]))),
        "field": _one_or_two((rows, columns)),
        "offset": _one_or_two(stage.offset),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _one_or_two(pair: tuple[Any, Any]) -> Any:
    return pair[0] if pair[0] == pair[1] else list(pair)


def builder_options(model_id: str) -> Iterator[tuple[str, Any]]:
    """Yield the options of a builder with their defaults, those it passes on included."""
    builder = builder_of(model_id)
    yield from _keyword_defaults(builder, set())
    call = _returned_call(builder)
    passes_on = any(
        parameter.kind == parameter.VAR_KEYWORD
        for parameter in inspect.signature(builder).parameters.values()
    )
    if passes_on and call is not None and isinstance(call.func, ast.Name):
        target = builder.__globals__.get(call.func.id)
        given = {keyword.arg for keyword in call.keywords if keyword.arg}
        if target is not None:
            yield from _keyword_defaults(target, given)


def _keyword_defaults(function: Any, given: set[str]) -> Iterator[tuple[str, Any]]:
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind == parameter.KEYWORD_ONLY and name not in given:
            yield name, None if parameter.default is parameter.empty else parameter.default


def _returned_call(function: Any) -> ast.Call | None:
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    for node in ast.walk(tree):
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Call):
            return node.value
    return None
