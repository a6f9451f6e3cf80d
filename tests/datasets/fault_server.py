"""A loopback HTTP server that goes wrong on request.

with FaultServer({"/a.zip": data}) as server:
    server.faults["/a.zip"] = [cut(1000), status(500)]   # first, second request; then healthy
    server.always["/a.zip"] = page(LOGIN_PAGE)           # every request
    server.requests                                      # what was asked, how much was sent
"""

import contextlib
import re
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

LOGIN_PAGE = b"""<!DOCTYPE html><html><head><title>Cityscapes login</title></head>
<body><form method=post><input name=username><input type="password"></form></body></html>"""
PLAIN_PAGE = (
    b"<html><head><title>Moved\n house</title></head><body>The data have moved.</body></html>"
)


@dataclass
class Request:
    method: str
    path: str
    headers: dict
    body: bytes = b""
    sent: int = 0

    @property
    def begin(self):
        """First byte asked for; 0 for the whole file."""
        return int(re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "bytes=0-"))[1])


class FaultServer:
    """Serves bytes by path, or a folder; ranges, ETag and Last-Modified as real servers do."""

    def __init__(self, files=None, *, folder: Path | None = None, host="127.0.0.1"):
        self.files, self.folder, self.host = dict(files or {}), folder, host
        self.faults, self.always = defaultdict(list), {}
        self.etags, self.ranges, self.posts = {}, True, {}
        self.requests = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.owner = self
        self.url = f"http://{host}:{self._server.server_port}"

    def __enter__(self):
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def content(self, path):
        if path in self.files:
            return self.files[path]
        file = self.folder / path.lstrip("/") if self.folder else None
        return file.read_bytes() if file and file.is_file() else None

    def sent(self, path):
        """Bytes of bodies sent for a path, request by request."""
        return [request.sent for request in self.requests if request.path == path]


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def do_GET(self):
        self._answer(b"")

    def do_POST(self):
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, body):
        owner, path = self.server.owner, unquote(self.path)
        self.record = Request(self.command, path, dict(self.headers), body)
        owner.requests.append(self.record)
        waiting = owner.faults[path]
        act = waiting.pop(0) if waiting else owner.always.get(path, healthy)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            act(self, owner.content(path))

    def head(self, code, headers):
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def send(self, data):
        self.wfile.write(data)
        self.wfile.flush()
        self.record.sent += len(data)

    def version(self):
        etag = self.server.owner.etags.get(self.record.path, '"1"')
        return {"ETag": etag} if etag else {}


def healthy(handler, data, *, length=None, send=None):
    """Answer as a good server; ``length`` is a lie, ``send`` limits what really comes."""
    if data is None:
        handler.head(404, {"Content-Length": "0"})
        return
    begin, version = handler.record.begin, handler.version()
    condition = handler.headers.get("If-Range")
    ranged = "Range" in handler.headers and handler.server.owner.ranges
    if condition and condition not in version.values():
        ranged = False
    if ranged and begin >= len(data):
        handler.head(416, {"Content-Range": f"bytes */{len(data)}", "Content-Length": "0"})
        return
    body = data[begin:] if ranged else data
    headers = {"Content-Length": len(body) if length is None else length, **version}
    if ranged:
        headers["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
    handler.head(206 if ranged else 200, headers)
    handler.send(body if send is None else body[:send])


def cut(after):
    """The connection ends after so many bytes of the body."""
    return lambda handler, data: healthy(handler, data, send=after)


def lying_length(more):
    """Content-Length is wrong by so many bytes."""
    return lambda handler, data: healthy(handler, data, length=len(data) + more)


def without_length(handler, data):
    """The end of the file is the end of the connection."""
    handler.head(200, {})
    handler.send(data)


def status(code, **headers):
    return lambda handler, data: handler.head(code, {"Content-Length": "0", **headers})


def page(html, kind="text/html; charset=utf-8"):
    """A web page in place of the file."""

    def act(handler, data):
        handler.head(200, {"Content-Length": len(html), "Content-Type": kind})
        handler.send(html)

    return act


def content(other):
    """Another file in place of the right one."""
    return lambda handler, data: healthy(handler, other)


def redirect(to, code=302):
    return lambda handler, data: handler.head(code, {"Location": to, "Content-Length": "0"})


def wrong_range(shift, total=None):
    """206, but for bytes that were not asked for."""

    def act(handler, data):
        begin = max(0, handler.record.begin + shift)
        size = len(data) if total is None else total
        handler.head(206, {"Content-Range": f"bytes {begin}-{len(data) - 1}/{size}",
                           "Content-Length": len(data) - begin, **handler.version()})  # fmt: skip
        handler.send(data[begin:])

    return act


def dribble(pause_s, chunk=1, limit_s=20):
    """A few bytes at a time, for ever."""

    def act(handler, data):
        handler.head(200, {"Content-Length": len(data), **handler.version()})
        end = time.monotonic() + limit_s
        for start in range(0, len(data), chunk):
            handler.send(data[start : start + chunk])
            time.sleep(pause_s)
            if time.monotonic() > end:
                return

    return act


def silent(seconds):
    """Nothing at all."""
    return lambda handler, data: time.sleep(seconds)


def dribbled_headers(pause_s, limit_s=20):
    def act(handler, data):
        handler.wfile.write(b"HTTP/1.0 200 OK\r\n")
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            handler.wfile.write(b"X-Wait: 1\r\n")
            handler.wfile.flush()
            time.sleep(pause_s)

    return act
