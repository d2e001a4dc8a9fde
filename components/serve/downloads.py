"""Rasters behind URLs: fetched completely, only from allowed prefixes, and never from an address that is not public.

Redirects and proxies are not followed. The address of a host is checked before the connection and is the one that is
connected, so a name server cannot exchange it in between.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from components.common.errors import TemporaryError, reason
from components.common.rasterfiles.servers import Refused, Unavailable, byte_range
from components.serve.config import ServeConfig
from components.serve.refusals import RequestError, bad

CHUNK = 1 << 20
TIMEOUT_S = 20.0
"""A server that sends nothing for this long does not answer."""

PORTS = {"http": 80, "https": 443}
NAT64 = ipaddress.ip_network("64:ff9b::/96")


def download(url: str, path: Path, config: ServeConfig) -> None:
    """Fetch the file behind a URL.

    Args:
        url: what the client named.
        path: file to write.
        config: allowed prefixes and limits.

    Raises:
        RequestError: the URL is not allowed, the server refuses it, or the file is too large.
        TemporaryError: the server does not answer.
    """
    parts = _allowed(url, config.url_prefixes)
    if parts.scheme == "s3":
        path.write_bytes(_from_s3(url, config))
        return
    try:
        with path.open("wb") as file:
            for chunk in _from_web(parts, url, config):
                file.write(chunk)
    except (OSError, HTTPException) as error:
        raise TemporaryError(f"{url}: the server does not answer ({reason(error)}); try again later") from None


def _allowed(url: str, prefixes: Sequence[str]) -> SplitResult:
    """The parts of a URL that lies below an allowed prefix."""
    if not prefixes:
        raise RequestError(403, "this service fetches no URLs; send the files, or ask its operator to allow a prefix")
    if not url.isascii() or any(sign <= " " or sign in '\\"<>^`{|}\x7f' for sign in url):
        raise bad("the URL has characters that must be percent-encoded")
    try:
        parts = urlsplit(url)
        own = parts.scheme, parts.hostname, parts.port or PORTS.get(parts.scheme)
    except ValueError:
        raise bad("the URL cannot be read; write it like https://tiles.example.org/2025/image.tif") from None
    if "@" in parts.netloc or parts.fragment:
        raise bad("the URL has credentials or a fragment; leave them out")
    decoded = unquote(unquote(parts.path))
    climbs = "\\" in decoded or {".", ".."}.intersection(decoded.split("/")) or "//" in decoded
    for prefix in map(urlsplit, prefixes):
        same = (prefix.scheme, prefix.hostname, prefix.port or PORTS.get(prefix.scheme)) == own
        if same and not climbs and parts.path.startswith(prefix.path) and parts.path != prefix.path:
            return parts
    raise RequestError(403, "the URL does not start with an allowed prefix; use one of serve.url_prefixes")


class _Connection(HTTPConnection):
    """A connection to an address that was checked."""

    def __init__(self, parts: SplitResult, private: bool) -> None:
        assert parts.hostname is not None
        self.default_port = PORTS[parts.scheme]  # left out of the header Host, which signed URLs sign
        super().__init__(parts.hostname, parts.port or self.default_port, timeout=TIMEOUT_S)
        self._secure, self._private = parts.scheme == "https", private

    def connect(self) -> None:
        """Connect to the first address of the host; every address must be public."""
        found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        addresses = [str(entry[4][0]) for entry in found]
        if not self._private and not all(map(is_public, addresses)):
            raise RequestError(403, f"{self.host} has an address that is not public, so it is not fetched")
        self.sock = socket.create_connection((addresses[0], self.port), TIMEOUT_S)
        if self._secure:
            self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self.host)

    def cut(self) -> None:
        """End a connection that another thread waits for."""
        if (sock := self.sock) is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


def is_public(address: str) -> bool:
    """Whether an address belongs to the public internet; addresses that stand for IPv4 ones do not count."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if not ip.is_global or ip.is_multicast or ip.is_reserved:
        return False
    return ip.version == 4 or not (ip.is_site_local or ip.ipv4_mapped or ip.sixtofour or ip.teredo or ip in NAT64)


def _from_web(parts: SplitResult, url: str, config: ServeConfig) -> Sequence[bytes]:
    connection = _Connection(parts, config.allow_private_hosts)
    until = time.monotonic() + config.timeout_s
    timer = threading.Timer(config.timeout_s, connection.cut)  # a byte now and then is no timeout for the socket
    timer.daemon = True
    timer.start()
    chunks: list[bytes] = []
    try:
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", target, headers={"User-Agent": "mobanet", "Accept-Encoding": "identity"})
        answer = connection.getresponse()
        if 300 <= answer.status < 400:
            raise RequestError(422, f"{url}: the server redirects, which is not followed; use the final URL")
        if answer.status >= 500:
            raise TemporaryError(f"{url}: the server answers {answer.status}; try again later")
        if answer.status != 200:
            raise RequestError(422, f"{url}: the server answers {answer.status}; correct the URL")
        size = 0
        while chunk := answer.read1(CHUNK):
            size += len(chunk)
            _require_size(url, size, config)
            chunks.append(chunk)
            if time.monotonic() > until:
                break
        if time.monotonic() > until:
            raise TemporaryError(f"{url}: the server sends too slowly; try again later")
        if answer.length:
            raise TemporaryError(f"{url}: the server ended the transfer early; try again later")
    finally:
        timer.cancel()
        connection.close()
    return chunks


def _from_s3(url: str, config: ServeConfig) -> bytes:
    try:
        content, size = byte_range(url, 0, config.max_body_bytes + 1)
    except Refused as error:
        raise RequestError(422, f"{url}: the server refuses it ({error}); correct the URL") from None
    except Unavailable as error:
        raise TemporaryError(f"{url}: the server does not answer ({error}); try again later") from None
    _require_size(url, size, config)
    return content


def _require_size(url: str, size: int, config: ServeConfig) -> None:
    if size > config.max_body_bytes:
        raise RequestError(413, f"{url}: larger than {config.max_body_mb} MB, the limit; use mobanet predict")
