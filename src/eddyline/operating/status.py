"""`/metrics`, `/live` and `/ready` over HTTP, for a machine's own Prometheus and supervisor; on loopback by default.

/live: 200 as long as the run reports to itself. /ready: 200 from when everything is open until it is told to stop.
"""

from __future__ import annotations

import errno
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, Final, Self

from eddyline.config import METRICS
from eddyline.errors import ConfigError
from eddyline.metrics import Counts
from eddyline.operating.exposition import CONTENT_TYPE, exposition

_log = logging.getLogger(__name__)
_SILENT_S: Final = 30.0  # a run reports five times a second; one that has not for so long hangs
_PATIENCE_S: Final = 5.0  # for a client to say what it wants, and to take the answer
_AT_ONCE: Final = 8  # requests; more are turned away at once, so that clients cannot take the service's memory


class Status:
    """What the endpoints tell; written by the run, read by requests.

    Args:
        stop: set when the run takes no more flows.
        clock: seconds that only grow.
    """

    def __init__(self, stop: threading.Event | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stop, self._clock = stop or threading.Event(), clock
        self._heard = clock()
        self.counts: Counts | None = None  # None until everything is open

    def heard(self, counts: Counts) -> None:
        """Take a report of the run; called several times a second."""
        self.counts, self._heard = counts, self._clock()

    def answer(self, path: str) -> tuple[int, str, str]:
        """Status code, content type and text for a path."""
        if path == "/metrics":
            return 200, CONTENT_TYPE, exposition(self.counts or Counts(), time.time())
        if path not in ("/live", "/ready"):
            return 404, "text/plain; charset=utf-8", "there are /metrics, /live and /ready\n"
        silent = self._clock() - self._heard
        if silent > _SILENT_S and self.counts is not None:
            return 503, "text/plain; charset=utf-8", f"the run has not reported for {silent:.0f} s; restart it\n"
        if path == "/ready" and self.counts is None:
            return 503, "text/plain; charset=utf-8", "starting: model, source and sinks are not open yet\n"
        if path == "/ready" and self._stop.is_set():
            return 503, "text/plain; charset=utf-8", "stopping: what was read is still scored and written\n"
        return 200, "text/plain; charset=utf-8", "ok\n"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, family: int, address: tuple[str, int], status: Status) -> None:
        self.address_family, self.status = family, status
        self._free = threading.BoundedSemaphore(_AT_ONCE)
        super().__init__(address, _Request)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # HTTPServer's own asks DNS for this machine's name, and waits for it

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        _log.info("metrics: a client went away in the middle of its request", exc_info=True)


class _Request(BaseHTTPRequestHandler):
    timeout = _PATIENCE_S
    server: _Server

    def do_GET(self) -> None:  # the name that http.server calls
        code, kind, text = self.server.status.answer(self.path.partition("?")[0])
        body = text.encode()
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def version_string(self) -> str:
        return "eddyline"

    def log_message(self, format: str, *args: Any) -> None:  # the name that http.server gives
        """Say nothing: a line per scrape would bury everything else."""


class StatusServer:
    """Answers on an address until it is closed.

    Args:
        address: HOST:PORT, an IPv6 host in brackets; port 0 takes a free one, see `port`.
        status: what to tell.

    Raises:
        ConfigError: the address is none, or cannot be listened on.
    """

    def __init__(self, address: str, status: Status) -> None:
        host, port = _host_and_port(address)
        try:
            family, _, _, _, _ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            self._server = _Server(family, (host, port), status)
        except OSError as error:
            raise ConfigError(
                f"metrics: cannot listen on {address}: {error.strerror}; stop what listens there, give another "
                "--metrics HOST:PORT, or --metrics '' for none"
            ) from error
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="metrics", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def status_of(
    address: str, report: Callable[[Counts], None], stop: threading.Event | None = None
) -> Iterator[Callable[[Counts], None]]:
    """Serve the status of a run at `address` ("" = nowhere); yields what the run reports to, which passes it on.

    A run that finds the default address taken, as the second one of a machine does, goes on without it and says so.
    """
    if not address:
        yield report
        return
    status = Status(stop)

    def heard(counts: Counts) -> None:
        status.heard(counts)
        report(counts)

    try:
        server = StatusServer(address, status)
    except ConfigError as error:
        taken = isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE
        if address != METRICS or not taken:
            raise
        _log.warning("%s; going on without it", error)
        yield heard
        return
    with server:
        if address != METRICS:
            _log.info("metrics: http://%s:%d/metrics", address.rpartition(":")[0], server.port)
        yield heard


def _host_and_port(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdigit() and int(port) < 1 << 16):
        raise ConfigError(f"metrics: `{address}` is no HOST:PORT; give one as {METRICS}, or '' for none")
    return host.removeprefix("[").removesuffix("]"), int(port)
