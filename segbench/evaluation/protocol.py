"""Protocols: what a score means, named, so that two numbers are compared only when they may be.

A protocol is data. The counts of an image are the same under all of them; a protocol only
says how the counts become scores. Change a definition, change its version.
"""

from __future__ import annotations

from segbench.core.errors import ConfigError, did_you_mean
from segbench.core.types import Task
from segbench.evaluation.protocols.table import PROTOCOLS
from segbench.evaluation.protocols.types import Protocol

__all__ = ["Protocol", "get_protocol", "protocols"]

_BY_ID = {p.id: p for p in PROTOCOLS} | {p.versioned_id: p for p in PROTOCOLS}


def protocols(*, task: Task | None = None) -> tuple[Protocol, ...]:
    """Return every protocol, or those of one task; semantic ones come first."""
    return tuple(p for p in PROTOCOLS if task in (None, p.task))


def get_protocol(protocol_id: str, *, task: Task | None = None) -> Protocol:
    """Return a protocol by id, with or without its version (``ade20k-150.v1``).

    Args:
        protocol_id: A known id.
        task: The task it must score; None takes any.

    Raises:
        ConfigError: The id is unknown, or the protocol scores another task.
    """
    known = [p.id for p in protocols(task=task)]
    fix = f"{task or 'all'} protocols are {', '.join(known)}"
    if protocol_id not in _BY_ID:
        raise ConfigError(
            f"unknown protocol '{protocol_id}'.{did_you_mean(protocol_id, known)}", fix=fix
        )
    protocol = _BY_ID[protocol_id]
    if task is not None and protocol.task != task:
        raise ConfigError(
            f"protocol '{protocol_id}' scores the {protocol.task} task, not {task}", fix=fix
        )
    return protocol
