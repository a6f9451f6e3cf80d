"""One HTTP request at a time: redirects checked, every failure given a name.

Addresses are shown without user names, passwords and the queries of redirects, which may
be signed; nothing an HTTP library says is repeated in a message.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import urljoin, urlsplit, urlunsplit

import requests
import urllib3.exceptions as wire

from segbench import __version__

MAX_REDIRECTS = 10
RETRIED_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
MAX_WAIT_S = 120.0
"""Longest pause a server may ask for with Retry-After."""

Value = TypeVar("Value")


class Fault(Exception):
    """What went wrong with one request.

    Args:
        reason: In words, without secrets.
        retry: Whether the same address may work later.
        unreachable: Whether no server answered at all.
        wait_s: Pause the server asks for.
    """

    def __init__(
        self, reason: str, *, retry: bool, unreachable: bool = False, wait_s: float = 0.0
    ) -> None:
        super().__init__(reason)
        self.retry, self.unreachable, self.wait_s = retry, unreachable, wait_s


class Client:
    """A session that follows redirects itself.

    Args:
        timeout_s: Seconds without a byte, and for the whole of an answer's headers, after
            which a server counts as silent.
    """

    def __init__(self, *, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.session = requests.Session()
        self.session.headers.update(
            {"User-Agent": f"segbench/{__version__}", "Accept-Encoding": "identity"}
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.session.close()

    def get(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        """Return the answer to a GET, its body still to be read.

        Cookies and credentials go to the host they belong to and to no other.

        Raises:
            Fault: No server, no answer in time, a redirect that cannot be followed, or a
                status other than success.
        """
        current = url
        for _ in range(MAX_REDIRECTS):
            answer = self._send(current, headers)
            if not answer.is_redirect:
                return _checked(answer)
            answer.close()
            current = _next_address(current, answer.headers["Location"])
        raise Fault(f"more than {MAX_REDIRECTS} redirects", retry=False)

    def _send(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        def send() -> requests.Response:
            return self.session.get(
                url, headers=dict(headers), stream=True, allow_redirects=False,
                timeout=self.timeout_s,
            )  # fmt: skip

        try:
            return _within(2 * self.timeout_s, send)
        except (requests.RequestException, OSError, ValueError) as error:
            raise fault_of(error, url, self.timeout_s) from None


def shown(url: str, *, query: bool = True) -> str:
    """Return an address without user name and password, and without its query if asked."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, parts.query if query else "", ""))


def fault_of(error: BaseException, url: str, timeout_s: float) -> Fault:
    """Return what an exception of the HTTP library means, in our words."""
    host = urlsplit(url).hostname or "?"
    causes = _causes(error)
    if any(isinstance(c, requests.exceptions.ProxyError | wire.ProxyError) for c in causes):
        return Fault("the proxy cannot be reached or refuses", retry=True, unreachable=True)
    if any(isinstance(c, requests.exceptions.SSLError | wire.SSLError) for c in causes):
        return Fault(f"the certificate of {host} cannot be verified", retry=False)
    if any(isinstance(c, wire.NameResolutionError) for c in causes):
        return Fault(f"the host name {host} cannot be resolved", retry=True, unreachable=True)
    if any(isinstance(c, wire.NewConnectionError) for c in causes):
        return Fault(f"{host} cannot be reached{_errno(causes)}", retry=True, unreachable=True)
    if any(isinstance(c, wire.ConnectTimeoutError) for c in causes):
        return Fault(
            f"{host} took no connection within {timeout_s:g} s", retry=True, unreachable=True
        )
    if any(isinstance(c, requests.Timeout | wire.TimeoutError | TimeoutError) for c in causes):
        return Fault(f"{host} gave no answer within {timeout_s:g} s", retry=True)
    if any(isinstance(c, requests.exceptions.ConnectionError | wire.HTTPError) for c in causes):
        return Fault("the connection was cut", retry=True)
    if isinstance(error, requests.exceptions.RequestException | ValueError):
        return Fault(f"the request failed ({type(error).__name__})", retry=False)
    return Fault(f"the connection failed ({type(error).__name__})", retry=True)


def _causes(error: BaseException) -> list[BaseException]:
    """Return an exception with all that it was raised from or wraps."""
    found: list[BaseException] = []
    todo: list[object] = [error]
    while todo:
        item = todo.pop()
        if isinstance(item, BaseException) and item not in found:
            found.append(item)
            todo += [item.__cause__, item.__context__, getattr(item, "reason", None), *item.args]
    return found


def _errno(causes: list[BaseException]) -> str:
    words = [c.strerror for c in causes if isinstance(c, OSError) and c.errno and c.strerror]
    return f" ({words[0]})" if words else ""


def _next_address(current: str, location: str) -> str:
    target = urljoin(current, location)
    before, after = urlsplit(current).scheme, urlsplit(target).scheme
    if after not in ("http", "https"):
        raise Fault(f"a redirect to a '{after}' address", retry=False)
    if before == "https" and after == "http":
        where = shown(target, query=False)
        raise Fault(f"a redirect from https to plain http ({where})", retry=False)
    return target


def _checked(answer: requests.Response) -> requests.Response:
    """Return an answer that brings a body, or says the range is beyond the end."""
    status = answer.status_code
    if status in (200, 206, 416):
        return answer
    answer.close()
    wait = answer.headers.get("Retry-After", "")
    raise Fault(
        f"HTTP {status}{_WORDS.get(status, '')}",
        retry=status in RETRIED_STATUS,
        wait_s=min(float(wait), MAX_WAIT_S) if wait.isdigit() else 0.0,
    )


_WORDS = {
    401: " (a login is needed)", 403: " (access refused)", 404: " (not found)",
    410: " (gone)", 429: " (too many requests)", 500: " (server error)",
    503: " (server overloaded)",
}  # fmt: skip


def _within(seconds: float, function: Callable[[], Value]) -> Value:
    """Run a function in a thread and give up on it after some seconds.

    A server that dribbles headers, and a name server that is silent, never time out by
    themselves.
    """
    results: list[Value] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True, name="request")
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError
    return results[0]
