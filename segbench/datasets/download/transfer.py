"""One file from the first address that has it: resumed, retried, verified, then renamed.

A server that offers ranges is asked for the missing bytes of the version it began with; one
that does not starts anew. Attempts that bring something are followed by others without end,
attempts that bring nothing are counted.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import requests

from segbench.core.errors import DataError
from segbench.core.progress import say, track_bytes
from segbench.datasets.download.answers import byte_range, content_length, is_page, page_words
from segbench.datasets.download.client import Client, Fault, fault_of, shown
from segbench.datasets.download.digests import Expected, mismatch
from segbench.datasets.download.disk import check_space, writing
from segbench.datasets.download.part import Part, Version

OPENING = 1024
"""Bytes of a body that are read before it is looked at."""
CHUNK = 1 << 18
PAGE_BYTES = 1 << 16
MAX_RESTARTS = 3
"""Times a file may turn out to be of two versions before an address is given up."""


@dataclass(frozen=True)
class Policy:
    """Patience with servers."""

    attempts: int = 5
    """Attempts in a row that bring less than ``gain_bytes``, at one address."""
    gain_bytes: int = 1 << 20
    backoff_s: float = 1.0
    """First pause; each further one is twice as long, up to ``max_pause_s``."""
    max_pause_s: float = 60.0
    timeout_s: float = 30.0
    """Seconds without a byte after which a server counts as silent."""
    min_rate: float = 1024.0
    """Bytes per second below which a server counts as stalled, over ``window_s``."""
    window_s: float = 30.0

    def pause(self, failures: int, asked_s: float) -> float:
        """Return the seconds to wait; drawn at random so that many clients spread."""
        longest = min(self.max_pause_s, self.backoff_s * float(2 ** (failures - 1)))
        return max(asked_s, longest * random.uniform(0.5, 1.0))


@dataclass(frozen=True)
class Fetched:
    """Where a verified file came from, and its sha256."""

    url: str
    sha256: str


def fetch(
    urls: Sequence[str], target: Path, expected: Expected, *, client: Client, policy: Policy
) -> Fetched:
    """Bring a file under its final name from the first address that has it.

    Raises:
        DataError: Naming every address and what happened there, or a full disk.
    """
    part = Part(target)
    faults: list[tuple[str, Fault]] = []
    for url in urls:
        try:
            sha256 = _from_address(url, part, expected, client=client, policy=policy)
        except Fault as fault:
            faults.append((url, fault))
            say(f"{target.name}: {shown(url)}: {fault}")
        else:
            return Fetched(shown(url), sha256)
    raise _all_failed(target, faults)


def _all_failed(target: Path, faults: Sequence[tuple[str, Fault]]) -> DataError:
    lines = "".join(f"\n  {shown(url)}: {fault}" for url, fault in faults)
    if all(fault.unreachable for _, fault in faults):
        what = f"no network: none of the servers of {target.name} can be reached:"
        fix = "connect this machine, set HTTPS_PROXY if it needs a proxy, "
    else:
        what, fix = f"{target.name} cannot be downloaded:", "run the same command again later, "
    kept = "; what has arrived so far is kept" if Part(target).num_bytes else ""
    return DataError(
        what + lines,
        fix=f"{fix}or put the file into {target.parent} yourself and run the same command again"
        f"{kept}",
    )


@dataclass
class _Patience:
    """How often an address has failed without bringing anything."""

    policy: Policy
    failures: int = 0
    restarts: int = 0

    def pause(self, fault: Fault, *, before: int, after: int) -> float:
        """Return the seconds to wait before the next attempt; raise when there is none."""
        self.restarts += after < before
        self.failures = 1 if after - before >= self.policy.gain_bytes else self.failures + 1
        limit = self.policy.attempts
        if not fault.retry or self.failures >= limit or self.restarts >= MAX_RESTARTS:
            tried = f" ({self.failures} attempts)" if self.failures > 1 else ""
            raise Fault(f"{fault}{tried}", retry=False, unreachable=fault.unreachable)
        return self.policy.pause(self.failures, fault.wait_s)


def _from_address(
    url: str, part: Part, expected: Expected, *, client: Client, policy: Policy
) -> str:
    """Bring the whole file from one address; return its sha256."""
    patience, pieced = _Patience(policy), part.num_bytes > 0
    while True:
        before = part.num_bytes
        try:
            _attempt(url, part, expected, client=client, policy=policy)
            return _verified(part, expected, pieced=pieced)
        except Fault as fault:
            pieced = part.num_bytes > 0
            if not pieced:
                part.remove()
            pause = patience.pause(fault, before=before, after=part.num_bytes)
            say(f"{part.target.name}: {fault}; next attempt in {pause:.1f} s")
        time.sleep(pause)


def _verified(part: Part, expected: Expected, *, pieced: bool) -> str:
    """Check size and digest, rename, return the sha256."""
    with part.path.open("rb") as stream:
        start = stream.read(PAGE_BYTES)
    problem, sha256 = mismatch(part.path, expected)
    if is_page(start):
        part.remove()
        raise Fault(page_words(start), retry=False)
    if problem:
        part.remove()
        again = "; it was put together from pieces and is fetched anew" if pieced else ""
        raise Fault(f"the file {problem}{again}", retry=pieced)
    with writing(part.target):
        part.finish()
    return sha256


def _attempt(url: str, part: Part, expected: Expected, *, client: Client, policy: Policy) -> None:
    """Ask once, and write what comes; a whole part is left alone."""
    start, headers = _resume_request(url, part, expected)
    if start and start == (expected.num_bytes or part.version.total):
        return
    answer = client.get(url, headers)
    try:
        _refuse_page(answer, url, policy)
        begin = _first_byte(answer, url, part, start, expected)
        if begin is not None:
            _receive(answer, url, part, begin, policy=policy)
    finally:
        answer.close()


def _resume_request(url: str, part: Part, expected: Expected) -> tuple[int, dict[str, str]]:
    """Return where to go on and the headers that ask for it.

    Bytes are appended only where the server promises the same version, or where a digest
    will tell that the pieces do not belong together.
    """
    if part.num_bytes > (expected.num_bytes or part.num_bytes):
        part.remove()
    size, known = part.num_bytes, part.version
    same_address = known.url == shown(url, query=False)
    if not size or not (expected.digest or (same_address and known.validator)):
        return 0, {}
    headers = {"Range": f"bytes={size}-"}
    if same_address and known.validator:
        headers["If-Range"] = known.validator
    return size, headers


def _first_byte(
    answer: requests.Response, url: str, part: Part, start: int, expected: Expected
) -> int | None:
    """Return where the body of an answer belongs; None when nothing is missing."""
    if answer.status_code == 416:
        total = byte_range(answer)[1]
        if start and total == start:
            return None
        part.remove()
        raise Fault("the server has no bytes where the file stopped; it begins anew", retry=True)
    if answer.status_code == 206:
        begin, total = byte_range(answer)
        found = Version.of_headers(shown(url, query=False), answer.headers, total)
        known = part.version
        changed = known.contradicts(found, same_address=known.url == found.url)
        if not start or begin != start or changed:
            part.remove()
            what = "another version" if changed else f"a range from {begin}, asked was {start}"
            raise Fault(f"the server sent {what}; the file begins anew", retry=True)
        _refuse_size(total, expected)
        return start
    total = content_length(answer)
    _refuse_size(total, expected)
    total = expected.num_bytes if total is None else total
    with writing(part.path):
        part.begin(Version.of_headers(shown(url, query=False), answer.headers, total))
    return 0


def _refuse_size(total: int | None, expected: Expected) -> None:
    if None not in (total, expected.num_bytes) and total != expected.num_bytes:
        raise Fault(f"the server offers {total} bytes, expected {expected.num_bytes}", retry=False)


def _refuse_page(answer: requests.Response, url: str, policy: Policy) -> None:
    """Raise a ``Fault`` for a web page in place of an archive."""
    if "text/html" not in answer.headers.get("Content-Type", "").lower():
        return
    page = next(_opened(_body(answer, url, policy)), b"")
    raise Fault(page_words(page), retry=False)


def _receive(
    answer: requests.Response, url: str, part: Part, start: int, *, policy: Policy
) -> None:
    """Append the body to the part; one that is a page, too short or too long is a ``Fault``."""
    total = part.version.total
    what = f"download {part.target.name}"
    check_space(part.path.parent, 0 if total is None else total - start, what=what)
    chunks = _opened(_body(answer, url, policy))
    with writing(part.path), part.path.open("r+b") as stream:
        stream.seek(start)
        sizes = (_append(stream, chunk, total) for chunk in chunks)
        try:
            for size in track_bytes(sizes, total, what, start=start):
                if total is None:
                    check_space(part.path.parent, size, what=what)
        except Fault as fault:
            where = f" after {_so_far(stream, total)}" if fault.retry else ""
            raise Fault(f"{fault}{where}", retry=fault.retry) from None
        if total is not None and stream.tell() < total:
            raise Fault(f"the connection was cut after {_so_far(stream, total)}", retry=True)


def _append(stream: BinaryIO, chunk: bytes, total: int | None) -> int:
    if stream.tell() == 0 and is_page(chunk):
        raise Fault(page_words(chunk), retry=False)
    if total is not None and stream.tell() + len(chunk) > total:
        raise Fault("the server sends more than it named", retry=False)
    return stream.write(chunk)


def _so_far(stream: BinaryIO, total: int | None) -> str:
    return f"{stream.tell()} bytes" if total is None else f"{stream.tell()} of {total} bytes"


def _opened(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield a body with its first bytes in one piece, enough to tell what a page is."""
    opening = b""
    try:
        while len(opening) < OPENING and (chunk := next(chunks, b"")):
            opening += chunk
    except Fault:
        if opening:
            yield opening
        raise
    if opening:
        yield opening
    yield from chunks


def _body(answer: requests.Response, url: str, policy: Policy) -> Iterator[bytes]:
    """Yield the bytes as they come; a server below the minimum rate is a ``Fault``."""
    began, arrived = time.monotonic(), 0
    while True:
        try:
            chunk = answer.raw.read1(CHUNK)
        except Exception as error:
            raise fault_of(error, url, policy.timeout_s) from None
        if not chunk:
            return
        yield chunk
        arrived += len(chunk)
        now = time.monotonic()
        if now - began >= policy.window_s:
            rate = arrived / (now - began)
            if rate < policy.min_rate:
                raise Fault(f"the server stalls at {rate:.0f} bytes/s", retry=True)
            began, arrived = now, 0
