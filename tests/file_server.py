"""A web server on the loopback that serves a folder as the study's repository does, with faults."""

from __future__ import annotations

import re
import socket
import struct
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote


@dataclass
class FileServer:
    """What the server does, and what it was asked.

    Attributes
    ----------
    folder : Path
        Files by their path.
    faults : dict of str to list
        By path: what to do wrong with the next requests (GET, for ``503`` and ``404`` HEAD too):
        ``"reset"`` (half of the body, then the connection is reset), ``"truncated"`` (half of the
        body, then the connection is closed), ``"long"`` and ``"short"`` (a Content-Length that is
        one too large or too small), ``"503"``, ``"404"``. One is used up by each request, except
        that a fault in the last place with ``*`` stays, e.g. ``["truncated*"]``.
    ranges : bool
        Whether parts of a file can be asked for.
    versions : bool
        Whether an ETag is sent.
    redirects : dict of str to str
        By path: where a request is sent on to.
    redirected : tuple of str
        Methods whose requests are.
    pause_s : float
        Pause after each 16 kB of a body.
    access : (str, str), optional
        User and password without which nothing is answered.
    requests : list of (str, str, str or None)
        Method, path and Range of each request.
    """

    folder: Path
    url: str = ""
    faults: dict[str, list[str]] = field(default_factory=dict)
    ranges: bool = True
    versions: bool = True
    redirects: dict[str, str] = field(default_factory=dict)
    redirected: tuple[str, ...] = ("HEAD", "GET")
    pause_s: float = 0.0
    access: tuple[str, str] | None = None
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)

    def fault(self, path: str, method: str) -> str:
        """Return what is to be done wrong now."""
        waiting = self.faults.get(path, [])
        if not waiting or (method == "HEAD" and waiting[0].rstrip("*") not in ("503", "404")):
            return ""
        return waiting[0].rstrip("*") if waiting[0].endswith("*") else waiting.pop(0)

    def asked(self, method: str) -> list[str]:
        """Return the paths asked for with a method."""
        return [path for name, path, _ in self.requests if name == method]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: FileServer

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, body: bool) -> None:
        state, path = self.state, unquote(self.path).lstrip("/")
        state.requests.append((self.command, path, self.headers.get("Range")))
        if path in state.redirects and self.command in state.redirected:
            self.send_response(302)
            self.send_header("Location", state.redirects[path])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if state.access is not None:
            given = b64encode(":".join(state.access).encode()).decode()
            if self.headers.get("Authorization") != f"Basic {given}":
                self.send_response(401)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
        fault = state.fault(path, self.command)
        file = state.folder / path
        if fault == "503" or fault == "404" or not file.is_file():
            self.send_response(503 if fault == "503" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = file.read_bytes()
        tag = f'"{sha256(content).hexdigest()[:16]}"'
        start, whole = 0, len(content)
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if asked and state.ranges and self.headers.get("If-Range") in (None, tag):
            start = int(asked[1])
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        else:
            self.send_response(200)
        content = content[start:]
        wrong = {"long": 1, "short": -1}.get(fault, 0)
        self.send_header("Content-Length", str(len(content) + wrong))
        if state.versions:
            self.send_header("ETag", tag)
        self.end_headers()
        if not body:
            return
        if fault in ("reset", "truncated"):
            content = content[: len(content) // 2]
        if fault == "short":
            content = content[:-1]
        for i in range(0, len(content), 1 << 14):
            self.wfile.write(content[i : i + (1 << 14)])
            time.sleep(state.pause_s)
        if fault == "reset":  # lingering for 0 s makes the close a reset
            self.wfile.flush()
            time.sleep(0.05)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if fault:
            self.close_connection = True


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that was killed


@contextmanager
def serve(folder: Path, **options: Any) -> Iterator[FileServer]:
    """Serve a folder on a free port of the loopback."""
    state = FileServer(folder, **options)
    handler = type("Handler", (_Handler,), {"state": state})
    server = _QuietServer(("127.0.0.1", 0), handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
