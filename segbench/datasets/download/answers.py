"""What an HTTP answer says of itself: which bytes it brings, or that it is a web page."""

from __future__ import annotations

import re

import requests


def byte_range(answer: requests.Response) -> tuple[int | None, int | None]:
    """Return first byte and total of ``Content-Range``, None where it does not say."""
    text = answer.headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", text.strip())
    if not match:
        return None, None
    first, total = match.groups()
    return (int(first) if first else None), (int(total) if total != "*" else None)


def content_length(answer: requests.Response) -> int | None:
    """Return ``Content-Length``, None where there is none."""
    text = answer.headers.get("Content-Length", "")
    return int(text) if text.isdigit() else None


def is_page(chunk: bytes) -> bool:
    """Tell whether a file begins like a web page."""
    return re.match(rb"(\xef\xbb\xbf)?\s*<(!doctype\s+html|html)", chunk, re.IGNORECASE) is not None


def page_words(page: bytes) -> str:
    """Return what a web page in place of an archive is."""
    text = page.decode("utf-8", "replace")
    title = re.search(r"<title[^>]*>(.*?)</title", text, re.IGNORECASE | re.DOTALL)
    words = "".join(c for c in " ".join(title[1].split()) if c.isprintable())[:80] if title else ""
    login = re.search(r"type\s*=\s*[\"']?password|\blog[ -]?in\b|\bsign[ -]?in\b", text, re.I)
    kind = "a login page" if login else "a web page (HTML)"
    return f"{kind} came in place of the file" + (f", titled '{words}'" if words else "")
