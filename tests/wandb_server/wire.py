"""HTTP: requests in, answers out, and the faults that are faults of the wire."""

from __future__ import annotations

import base64
import contextlib
import copy
import gzip
import json
import re
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.wandb_server.faults import Fault, halved
from tests.wandb_server.search import BadFilter
from tests.wandb_server.trouble import NotThere, Unanswered

if TYPE_CHECKING:
    from tests.wandb_server.server import WandbServer

_NAMED = re.compile(r"\b(?:query|mutation)\s+(\w+)")
_TIMES = ("createdAt", "heartbeatAt", "updatedAt")


class Listener(ThreadingHTTPServer):
    """Threads and sockets that end with the server: a client keeps its connections open as long as it may."""

    daemon_threads = False  # so that closing waits for them
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, server: WandbServer) -> None:
        self.state = server
        self.ending = threading.Event()
        self._open: set[socket.socket] = set()
        self._guard = threading.Lock()
        super().__init__(("127.0.0.1", 0), Handler)
        # Polled often: shutting down waits for the next poll.
        self._thread = threading.Thread(
            target=self.serve_forever, args=(0.02,), name="wandb-server", daemon=True
        )
        self._thread.start()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._guard:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._guard:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is part of the tests; anything else is a defect of this server, and is kept."""
        import sys

        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            self.state.defects.append(error)  # type: ignore[arg-type]

    def end(self) -> None:
        self.ending.set()
        self.shutdown()
        with self._guard:
            for one in self._open:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
        self.server_close()
        self._thread.join()


class Handler(BaseHTTPRequestHandler):
    """One connection. Every request is recorded, then its faults are looked up, then it is answered."""

    protocol_version = "HTTP/1.1"
    server: Listener
    _skew = 0.0

    def log_message(self, *args: Any) -> None:
        pass

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string((time.time() if timestamp is None else timestamp) + self._skew)

    # Requests -------------------------------------------------------------------------------------------------------

    def do_POST(self) -> None:
        raw, path = self._body(), urlsplit(self.path).path
        stream = re.fullmatch(r"/files/([^/]+)/([^/]+)/([^/]+)/file_stream", path)
        if stream is None and path != "/graphql":
            self._send(200, b"{}")  # telemetry, which nobody misses
            return
        told = json.loads(raw or b"{}")
        if stream is not None:
            entity, project, run = map(unquote, stream.groups())
            v = {"entity": entity, "project": project, "run": run, **told}
            self._serve("file_stream", v, len(raw), lambda: self.server.state.stream(v))
            return
        text, v = told.get("query", ""), told.get("variables") or {}
        named = _NAMED.search(text)
        operation = named[1] if named else ""
        self._serve(operation, v, len(raw), lambda: {"data": self.server.state.answer(operation, v, text)})

    def do_PUT(self) -> None:
        raw, key = self._body(), unquote(urlsplit(self.path).path).removeprefix("/storage/")
        self._serve("upload", self._about(key), len(raw), lambda: self.server.state.store(key, raw))

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        found = re.fullmatch(r"/export/([^/]+)/([^/]+)/([^/]+)/(\d+)\.parquet", path)
        state = self.server.state
        if found is not None:
            v = {"entity": found[1], "project": found[2], "run": found[3], "part": int(found[4])}
            version = int(parse_qs(url.query)["v"][0])
            self._serve("export", v, 0, lambda: state.exported(v, version))
        else:
            key = path.removeprefix("/storage/")
            self._serve("download", self._about(key), 0, lambda: state.stored(key))

    do_HEAD = do_GET

    def _about(self, key: str) -> dict[str, Any]:
        kind, *rest = key.split("/", 4)
        named = dict(zip(("entity", "project", "run", "file"), rest, strict=False)) if kind == "run" else {}
        return {"key": key, **named}

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            raw = b"".join(parts)
        else:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(raw) if self.headers.get("Content-Encoding") == "gzip" else raw

    def _key(self) -> str:
        """The API key of the request: it comes as the password of the user "api"."""
        scheme, _, told = self.headers.get("Authorization", "").partition(" ")
        if scheme != "Basic":
            return ""
        return base64.b64decode(told).decode(errors="replace").partition(":")[2]

    # Answers --------------------------------------------------------------------------------------------------------

    def _serve(self, operation: str, v: dict[str, Any], size: int, work: Any) -> None:
        state = self.server.state
        request, faults = state.receive(operation, v, size)
        self._skew = sum(fault.seconds for fault in faults if fault.kind == "skew")
        try:
            self._wait(state.latency + sum(fault.seconds for fault in faults if fault.kind == "slow"))
            for fault in faults:
                if fault.call is not None:
                    fault.call()
            first = next((f for f in faults if f.kind in ("status", "error", "null", "drop")), None)
            if first is not None:
                self._refuse(first, request)
                return
            signed = operation not in ("upload", "download", "export")  # signed addresses carry no key
            if signed and self._key() not in state.api_keys:
                self._json(
                    401, {"errors": [{"message": "permission denied: unknown API key"}]}, faults, request
                )
                return
            self._answer(work, faults, request)
        finally:
            state.done(request)

    def _wait(self, seconds: float) -> None:
        if seconds > 0:
            self.server.ending.wait(seconds)  # a server that closes waits for nobody

    def _answer(self, work: Any, faults: list[Fault], request: Any) -> None:
        self.server.state.now.stale = any(fault.kind == "stale" for fault in faults)
        try:
            said = work()
        except (BadFilter, Unanswered) as error:
            said = {"data": None, "errors": [{"message": str(error)}]}
        except NotThere as error:
            self._json(404, {"errors": [{"message": str(error)}], "error": str(error)}, faults, request)
            return
        if isinstance(said, bytes):
            self._bytes(said, faults, request)
            return
        if any(fault.kind == "half_page" for fault in faults):
            said = {**said, "data": halved(said.get("data"))}
        self._json(200, shifted(said, self._skew) if self._skew else said, faults, request)

    def _refuse(self, fault: Fault, request: Any) -> None:
        if fault.kind == "drop":
            self.close_connection = True
            request.status = 0
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
        elif fault.kind == "null":
            named = (
                request.variables.get("run")
                or request.variables.get("runName")
                or request.variables.get("name")
            )
            self._json(200, {"data": {"project": {"run": None} if named else None}}, [], request)
        elif fault.kind == "error":
            self._json(200, {"data": None, "errors": [{"message": fault.message}]}, [], request)
        else:
            later = {} if fault.retry_after is None else {"Retry-After": f"{fault.retry_after:g}"}
            body = json.dumps({"errors": [{"message": fault.message}], "error": fault.message}).encode()
            self._send(fault.status, body, later, request=request)

    def _json(self, status: int, said: Any, faults: list[Fault], request: Any) -> None:
        body = json.dumps(said).encode()
        if any(fault.kind == "truncated" for fault in faults):
            body = body[: len(body) // 2]
        headers = {"Content-Type": "application/json"}
        if len(body) > 1024 and "gzip" in self.headers.get("Accept-Encoding", ""):
            body, headers["Content-Encoding"] = gzip.compress(body, 1), "gzip"
        self._send(status, body, headers, faults, request)

    def _bytes(self, data: bytes, faults: list[Fault], request: Any) -> None:
        """A file, whole or the range asked for."""
        headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes"}
        part = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if part is None or not (part[1] or part[2]):
            self._send(200, data, headers, faults, request)
            return
        first = int(part[1]) if part[1] else max(0, len(data) - int(part[2]))
        last = min(int(part[2]), len(data) - 1) if part[1] and part[2] else len(data) - 1
        if first > last:
            self._send(416, b"", {"Content-Range": f"bytes */{len(data)}"}, faults, request)
            return
        headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        self._send(206, data[first : last + 1], headers, faults, request)

    def _send(
        self,
        status: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        faults: list[Fault] | None = None,
        request: Any = None,
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if request is not None:
            request.status, request.sent = status, len(body)
        if self.command == "HEAD":
            return
        if any(fault.kind == "cut" for fault in faults or ()):
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
        else:
            self.wfile.write(body)


def shifted(said: Any, seconds: float) -> Any:
    """An answer with the times of a server whose clock is off."""
    from calendar import timegm

    from tests.wandb_server.runs import stamp

    said = copy.deepcopy(said)
    todo = [said]
    while todo:
        one = todo.pop()
        if isinstance(one, dict):
            for key, value in one.items():
                if key in _TIMES and isinstance(value, str):
                    one[key] = stamp(timegm(time.strptime(value, "%Y-%m-%dT%H:%M:%S")) + seconds)
                else:
                    todo.append(value)
        elif isinstance(one, list):
            todo += one
    return said
