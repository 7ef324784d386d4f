# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the fakes have in common: an HTTP server, and ways to watch it and to make it fail."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

if TYPE_CHECKING:
    from typing import Self

When = Literal["before", "after"]
CLOUD_PREFIXES = ("AWS_", "AZURE_", "IDENTITY_", "IMDS_", "MSI_")
DIRECT = "127.0.0.1,localhost"


def around_proxies() -> dict[str, str]:
    """Return the variables that let clients reach this machine without a proxy."""
    return {"NO_PROXY": DIRECT, "no_proxy": DIRECT}


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without what clients of clouds would take their identity or endpoint from."""
    return {name: value for name, value in environ.items() if not name.startswith(CLOUD_PREFIXES)}


@dataclass(frozen=True, kw_only=True)
class Call:
    """An HTTP request as it came in; header names are in lower case."""

    method: str
    host: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer; `body` is sent as JSON unless it is None."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


class Refusal(Exception):
    """The service says no."""

    def __init__(
        self, code: str, message: str, *, status: int = 400, inner: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        """Say what the client is told; `inner` is the finer code that some services add."""
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.inner = inner
        self.headers = headers or {}


class Cut(Exception):
    """The connection breaks, and the client gets no answer."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a client asked for."""

    operation: str


R = TypeVar("R", bound=Request)


@dataclass(kw_only=True, eq=False)
class Hook(Generic[R]):
    """Something to do at the next requests for an operation: `times` of them, or all."""

    operation: str
    when: When
    action: Callable[[R], object]
    times: int | None


class HttpServer(ThreadingHTTPServer):
    """A server on the loopback interface whose connections end with it."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, handler: type[BaseHTTPRequestHandler], *, tls: ssl.SSLContext | None = None) -> None:
        """Listen on a free port, and serve."""
        self._tls = tls
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.unexpected: list[Exception] = []
        super().__init__(("127.0.0.1", 0), handler)
        # A short poll, because `shutdown` waits for the next one.
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def port(self) -> int:
        """The port that was free."""
        return int(self.server_address[1])

    def get_request(self) -> tuple[socket.socket, Any]:
        """Take a connection; the handshake is left to its own thread."""
        client, address = super().get_request()
        # Small answers must not wait for the acknowledgement of their headers.
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls:
            client = self._tls.wrap_socket(client, server_side=True, do_handshake_on_connect=False)
        with self._lock:
            self._open.add(client)
        return client, address

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Be quiet: clients go away, and mistakes are kept where they are made."""

    def stop(self) -> None:
        """Stop listening, and cut what is left."""
        self.shutdown()
        self.server_close()
        with self._lock:
            doomed, self._open = self._open, set()
        for client in doomed:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)


class Handler(BaseHTTPRequestHandler):
    """Reads requests and writes replies; what is in between is `answer`."""

    protocol_version = "HTTP/1.1"
    server_version = "Fake"
    sys_version = ""

    def answer(self, call: Call) -> Reply:
        """Say what the service replies."""
        raise NotImplementedError

    def handle_one_request(self) -> None:
        """Serve any method alike."""
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        self._send(self.answer(self._call()))

    def log_message(self, *args: Any) -> None:
        """Be quiet."""

    def _call(self) -> Call:
        parts = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        return Call(
            method=self.command,
            host=headers.get("host", "").partition(":")[0].lower(),
            path=unquote(parts.path),
            query=dict(parse_qsl(parts.query, keep_blank_values=True)),
            headers=headers,
            body=self.rfile.read(int(headers.get("content-length", 0))),
        )

    def _send(self, reply: Reply) -> None:
        content = b"" if reply.body is None else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        for name, value in {"Content-Type": "application/json", **reply.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@dataclass(kw_only=True, eq=False)
class Service(Generic[R]):
    """A fake web service: what tests see of it and do to it.

    A request that is admitted passes the hooks `before`, is acted upon, passes the hooks `after`
    and is then answered. An exception of a hook or of the fake itself cuts the connection and is
    raised again at the end of the `with`.
    """

    delay: float = 0
    requests: list[R] = field(default_factory=list, init=False)
    _hooks: list[Hook[R]] = field(default_factory=list, init=False, repr=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, init=False, repr=False)
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack, init=False, repr=False)

    def __enter__(self) -> Self:
        """Serve."""
        with contextlib.ExitStack() as stack:
            self.start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop, and tell what went wrong in the server's threads."""
        self._stack.__exit__(kind, value, trace)

    def on(
        self, operation: str, callback: Callable[[R], object], *, when: When = "before", times: int | None = None
    ) -> None:
        """Call back in the server's thread; `after` is when the state has changed and the client does not know.

        A callback that raises `Refusal` makes that the answer; one that raises `Cut` leaves the client without any.
        """
        if operation not in self.operations():
            msg = f"{operation} is none of {', '.join(sorted(self.operations()))}"
            raise ValueError(msg)
        with self._lock:
            self._hooks.append(Hook(operation=operation, when=when, action=callback, times=times))

    def fail(
        self,
        operation: str,
        *,
        code: str = "InternalServiceError",
        message: str = "This failure was ordered by a test.",
        status: int = 400,
        times: int | None = None,
        headers: Mapping[str, str] | None = None,
        when: When = "before",
    ) -> None:
        """Refuse an operation; with `after`, although it is done."""

        def refuse(request: R) -> None:  # noqa: ARG001
            raise Refusal(code, message, status=status, headers=headers)

        self.on(operation, refuse, when=when, times=times)

    def clear_hooks(self) -> None:
        """Take back all that `on` and `fail` ordered."""
        with self._lock:
            self._hooks.clear()

    def operations(self) -> set[str]:
        """Return the names of all operations."""
        raise NotImplementedError

    def start(self, stack: contextlib.ExitStack) -> None:
        """Start the servers."""
        raise NotImplementedError

    def read(self, call: Call) -> R:
        """Say what is asked for; refuse nothing yet."""
        raise NotImplementedError

    def admit(self, call: Call, request: R) -> None:
        """Refuse those who do not prove who they are."""
        raise NotImplementedError

    def act(self, call: Call, request: R) -> Reply:
        """Do what is asked for, or refuse it."""
        raise NotImplementedError

    def refuse(self, refusal: Refusal, request: R) -> Reply:
        """Say no, in the way of the service."""
        raise NotImplementedError

    def answer(self, call: Call) -> Reply:
        """Serve a request."""
        request = self.read(call)
        self.requests.append(request)
        time.sleep(self.delay)
        try:
            self.admit(call, request)
            self._run_hooks(request, "before")
            with self._lock:
                reply = self.act(call, request)
            self._run_hooks(request, "after")
        except Refusal as refusal:
            return self.refuse(refusal, request)
        return reply

    def _run_hooks(self, request: R, when: When) -> None:
        due = []
        with self._lock:
            for hook in self._hooks:
                if (hook.operation, hook.when) == (request.operation, when) and hook.times != 0:
                    hook.times = None if hook.times is None else hook.times - 1
                    due.append(hook)
        for hook in due:
            # Not under the lock: a callback may use the service.
            hook.action(request)


@contextlib.contextmanager
def serving(answer: Callable[[Call], Reply], *, tls: ssl.SSLContext | None = None) -> Iterator[HttpServer]:
    """Serve until the end of the `with`, and raise there what went wrong in the server's threads."""

    class Answering(Handler):
        def answer(self, call: Call) -> Reply:
            try:
                return answer(call)
            except Cut:
                raise
            except Exception as error:
                server.unexpected.append(error)
                raise

    server = HttpServer(Answering, tls=tls)
    try:
        yield server
    finally:
        server.stop()
        if server.unexpected:
            msg = "the fake or a hook of the test failed"
            raise RuntimeError(msg) from server.unexpected[0]
