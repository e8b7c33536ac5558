"""A server on loopback that talks to the pages it served, and to nobody else."""

import signal
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bokeh.application import Application
from bokeh.application.handlers.function import FunctionHandler
from bokeh.document import Document
from bokeh.server.server import BaseServer
from bokeh.server.tornado import BokehTornado
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPHeaders, HTTPServerRequest
from tornado.ioloop import IOLoop
from tornado.web import ErrorHandler, OutputTransform

from pyloric_db.errors import ConfigError

ADDRESS = "127.0.0.1"
#: The browser is told to fetch nothing from elsewhere, to run no script from elsewhere and to let
#: nobody put the page into a frame. BokehJS sets styles in the page.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
#: The longest message that a page may send; its own have a few hundred bytes.
LONGEST_MESSAGE = 1 << 18


class Headers(OutputTransform):
    """Adds the policy to whatever is served."""

    def __init__(self, request: HTTPServerRequest) -> None:
        pass

    def transform_first_chunk(
        self, status_code: int, headers: HTTPHeaders, chunk: bytes, finishing: bool
    ) -> tuple[int, HTTPHeaders, bytes]:
        headers["Content-Security-Policy"] = POLICY
        headers["X-Content-Type-Options"] = "nosniff"
        headers["Referrer-Policy"] = "no-referrer"
        headers["Cross-Origin-Resource-Policy"] = "same-origin"
        return status_code, headers, chunk


class LoopbackTornado(BokehTornado):
    """Bokeh's application behind one gate, for pages, files and websockets alike.

    A page of another site that gets this machine's browser to talk to us (by DNS rebinding, or
    straight to the port) names that site in Host or in Origin, and is refused.
    """

    def __init__(self, applications: Application, port: int) -> None:
        self.hosts = {f"{name}:{port}" for name in (ADDRESS, "localhost")}
        self.origins = {f"http://{host}" for host in self.hosts}
        super().__init__(
            applications,
            extra_websocket_origins=sorted(self.hosts),
            websocket_max_message_size_bytes=LONGEST_MESSAGE,
        )
        self.transforms.append(Headers)

    def allows(self, request: HTTPServerRequest) -> bool:
        """Whether a request comes from this machine's own pages, or from the address bar."""
        hosts = request.headers.get_list("Host")
        origins = request.headers.get_list("Origin")
        return (
            len(hosts) == 1
            and hosts[0].lower() in self.hosts
            and len(origins) <= 1
            and all(origin.lower() in self.origins for origin in origins)
        )

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> Any:
        if self.allows(request):
            return super().find_handler(request, **kwargs)
        return self.get_handler_delegate(request, ErrorHandler, {"status_code": 403})


class LoopbackServer:
    """Serves one document per browser page on a port of 127.0.0.1.

    Args:
        make_document: fills the empty document of a new page.
        port: 0 for one that is free.

    Raises:
        ConfigError: the port is in use.
    """

    def __init__(self, make_document: Callable[[Document], None], port: int = 0) -> None:
        # one socket of IPv4, made before the application, which must know its port
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((ADDRESS, port))
        except (OSError, OverflowError) as error:
            listening.close()
            reason = getattr(error, "strerror", None) or str(error)
            raise ConfigError(f"port {port} of {ADDRESS} cannot be used: {reason}") from error
        listening.listen(128)
        listening.setblocking(False)
        self.port: int = listening.getsockname()[1]
        self.address = f"http://{ADDRESS}:{self.port}/"
        self.loop: Any = IOLoop.current()
        tornado = LoopbackTornado(Application(FunctionHandler(make_document)), self.port)
        http = HTTPServer(tornado)
        http.add_socket(listening)
        self._server = BaseServer(self.loop, tornado, http)
        #: Where pages have slow answers made.
        self.workers = ThreadPoolExecutor(max_workers=2)

    def run(self, announce: Callable[[], None]) -> None:
        """Serves until it is interrupted by Ctrl-C, which is how it ends. In the main thread.

        Args:
            announce: called once Ctrl-C ends it.
        """
        self._server.start()
        # a KeyboardInterrupt is lost if it comes while an object is being finalised
        events = self.loop.asyncio_loop
        events.add_signal_handler(signal.SIGINT, self.loop.stop)
        try:
            announce()
            self.loop.start()
        finally:
            events.remove_signal_handler(signal.SIGINT)
            self.close()

    def close(self) -> None:
        """Lets go of the port; what is being made for pages is not waited for."""
        self._server.stop()
        self.workers.shutdown(wait=False, cancel_futures=True)
