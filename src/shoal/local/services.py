"""The HTTP server of the embedded cloud's AWS API: moto behind our middleware, one port, 127.0.0.1 only."""

from __future__ import annotations

import logging
import os
import socket
import threading

import moto.backends  # noqa: F401 - the app finds backends by name, and needs this loaded
from moto.core.config import default_user_config
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import BaseWSGIServer, make_server

from shoal.local.aws_response import WsgiApp

HOST = "127.0.0.1"
PORTS_TO_TRY = 50
BACKLOG = 128
_log = logging.getLogger(__name__)


class _Handler(MotoRequestHandler):
    """Keeps connections alive, doesn't wait to fill packets, and writes no line for a request."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle_expect_100(self) -> bool:
        """Werkzeug answers `Expect: 100-continue`; answering twice confuses clients."""
        return True

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Nothing."""

    def log(self, type: str, message: str, *args: object) -> None:
        """What goes wrong on a connection, for the cloud's log."""
        _log.debug(message, *args)


class _Dispatcher(DomainDispatcherApplication):
    """Moto's dispatcher; it would list moto's folders and try every service's patterns, one request at a time."""

    def __init__(self) -> None:
        super().__init__(create_backend_app)
        self._backends: dict[str | None, str | None] = {}

    def get_backend_for_host(self, host: str | None) -> str | None:
        """The service that a host name stands for, looked up once; there are as many names as services."""
        if host not in self._backends:
            self._backends[host] = super().get_backend_for_host(host)
        return self._backends[host]


def moto_application(port: int) -> WsgiApp:
    """Moto's WSGI application, with Step Functions' interpreter on.

    Args:
        port: Where the middleware answers; the interpreter calls Lambda and the other services there.
    """
    os.environ["MOTO_PORT"] = str(port)
    # A proxy of the user's is for the world outside; the interpreter's own calls must not go there.
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), "localhost", HOST]))
    default_user_config["stepfunctions"]["execute_state_machine"] = True
    app: WsgiApp = _Dispatcher()
    return app


def listen(wanted: int) -> socket.socket:
    """A socket that listens at the wanted port, or at the next one that is free: nobody can take it any more.

    Raises:
        OSError: None of 50 ports is free.
    """
    last = min(wanted + PORTS_TO_TRY, 2**16) - 1
    for port in range(wanted, last + 1):
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((HOST, port))
            # Two sockets may be bound to one port until the first listens.
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
            continue
        return listener
    raise OSError(f"No free port from {wanted} to {last}.")


class Server:
    """Serves a WSGI application on a thread of its own, a thread for each connection."""

    def __init__(self, app: WsgiApp, listener: socket.socket) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        with listener:  # the server listens on a copy of it
            self._server: BaseWSGIServer = make_server(
                HOST, listener.getsockname()[1], app, threaded=True, request_handler=_Handler, fd=listener.fileno()
            )
        self._server.daemon_threads = True  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.05], name="aws-api", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more requests. Those on their way are not waited for: what was answered is on disk."""
        self._server.shutdown()
        self._server.socket.close()
        self._thread.join(timeout=2)
