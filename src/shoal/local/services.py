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
    app: WsgiApp = DomainDispatcherApplication(create_backend_app)
    return app


def free_port(wanted: int) -> int:
    """The wanted port, or the next one that is free. Raises `OSError` when none of 50 is."""
    for port in range(wanted, wanted + PORTS_TO_TRY):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise OSError(f"No free port from {wanted} to {wanted + PORTS_TO_TRY - 1}.")


class Server:
    """Serves a WSGI application on a thread of its own, a thread for each connection."""

    def __init__(self, app: WsgiApp, port: int) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server: BaseWSGIServer = make_server(HOST, port, app, threaded=True, request_handler=_Handler)
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
