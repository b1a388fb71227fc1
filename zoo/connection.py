"""Asking a web address for a file, or for the rest of one.

The opener is built by hand: urllib's own would also take `file:` and `ftp:` addresses.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import urllib.error
import urllib.request
from email.message import Message
from typing import Any
from urllib.parse import urlsplit

_RETRIED_STATUS = {408, 425, 429, 500, 502, 503, 504}
_HEADERS = {"User-Agent": "bert4keras3-zoo", "Accept-Encoding": "identity"}


class TransferError(OSError):
    """One address did not give the file."""


class Interrupted(Exception):
    """A fault that may pass: worth another try at the same address."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class UnsatisfiableRange(Exception):
    """The server has no byte after those that are here; `total` is what it has."""

    def __init__(self, total: int | None) -> None:
        super().__init__(total)
        self.total = total


class _WebRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects on the web only, and never from https to http."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: Any,
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        scheme = urlsplit(newurl).scheme
        if scheme != "https" and scheme != urlsplit(req.full_url).scheme:
            raise TransferError(
                f"{req.full_url} redirects to {newurl}, which is refused: only https, "
                "or http from http, is followed."
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
        _WebRedirects(),
    ):
        opener.add_handler(handler)
    return opener


def open_url(url: str, timeout: float, rest: tuple[int, str] | None = None) -> Any:
    """Opens an http or https address.

    Args:
        url: the address.
        timeout: seconds without a byte.
        rest: to ask for the rest of a file only: how many bytes are here, and the
            validator of what they are a part of. The server sends the whole file if
            it has another one by now.

    Returns:
        The response; close it.

    Raises:
        TransferError: trying again would not help.
        Interrupted: trying again may help.
        UnsatisfiableRange: the file is not longer than what is here.
    """
    headers = dict(_HEADERS)
    if rest is not None:
        headers |= {"Range": f"bytes={rest[0]}-", "If-Range": rest[1]}
    request = urllib.request.Request(url, headers=headers)
    try:
        return _opener().open(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416:
                raise UnsatisfiableRange(range_of(error.headers)[1]) from None
            reason = f"{url} answered {error.code} {error.reason}"
            if error.code in _RETRIED_STATUS:
                wait = _retry_after(error.headers)
                raise Interrupted(f"the server answered {error.code}", wait) from None
        raise TransferError(f"{reason}.") from None
    except TransferError:
        raise
    except (OSError, http.client.HTTPException) as error:
        cause = getattr(error, "reason", error)
        hopeless = (
            socket.gaierror,
            ConnectionRefusedError,
            ssl.SSLCertVerificationError,
        )
        if isinstance(cause, hopeless):
            raise TransferError(
                f"{url} is out of reach ({reason_of(cause)})."
            ) from error
        raise Interrupted(f"it did not answer ({reason_of(cause)})") from error


def validator_of(headers: Message) -> str | None:
    """Returns the `If-Range` value that identifies a file, or None."""
    # A weak ETag does not promise equal bytes, and If-Range must not carry one.
    etag = headers.get("ETag")
    if etag and not etag.startswith("W/"):
        return etag
    return headers.get("Last-Modified")


def length_of(headers: Message) -> int | None:
    """Returns the `Content-Length`, or None."""
    length = headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def range_of(headers: Message) -> tuple[int | None, int | None]:
    """Returns start and total of a `Content-Range`, None for what it does not say."""
    value = headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(?:(\d+)|\*)", value.strip())
    if match is None:
        return None, None
    start, total = match.groups()
    return (int(start) if start else None), (int(total) if total else None)


def _retry_after(headers: Message) -> float | None:
    value = headers.get("Retry-After", "")
    return float(value) if value.isdecimal() else None


def reason_of(error: Any) -> str:
    """Returns an error's text, or its name where it has none."""
    return str(error) or type(error).__name__
