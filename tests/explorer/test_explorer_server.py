"""Who is served: this machine's own pages, and nobody else."""

import http.client
import re
import signal
import socket
import subprocess
import sys
from urllib.parse import urlsplit

import pytest
import synthetic
from serving import served

from pyloric_db.errors import ConfigError, DatabaseError
from pyloric_db.explorer.explore import make_server
from pyloric_db.explorer.server import LoopbackServer


def ask(address, path="/", method="GET", **headers):
    """Status and headers of one request, with the headers exactly as given."""
    where = urlsplit(address)
    connection = http.client.HTTPConnection("127.0.0.1", where.port, timeout=60)
    connection.putrequest(method, path, skip_host=True)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, dict(answer.getheaders()), body


def own(address):
    return urlsplit(address).netloc


def test_the_page_and_its_files_are_served_to_loopback(address):
    port = urlsplit(address).port
    for host in (f"127.0.0.1:{port}", f"localhost:{port}"):
        status, headers, body = ask(address, Host=host)
        assert status == 200
        assert "default-src 'self'" in headers["Content-Security-Policy"]
        assert "Access-Control-Allow-Origin" not in headers
    scripts = re.findall(rb'src="(/?static/js/[^"?]+)', body)
    assert scripts
    for script in scripts:
        assert ask(address, "/" + script.decode().lstrip("/"), Host=own(address))[0] == 200
    assert not re.findall(rb"(?:src|href)=[\"']?(?:https?:)?//", body)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:PORT", "127.0.0.1", "127.0.0.1.evil.example:PORT", ""]
)
@pytest.mark.parametrize("path", ["/", "/static/js/bokeh.min.js", "/ws", "/nowhere"])
def test_other_hosts_are_refused(address, host, path):
    host = host.replace("PORT", str(urlsplit(address).port))
    assert ask(address, path, Host=host)[0] == 403


def test_a_request_without_a_host_is_refused(address):
    assert ask(address)[0] in (400, 403)


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "https://HOST", "null", "http://127.0.0.1", "http://localhost"],
)
@pytest.mark.parametrize("path", ["/", "/static/js/bokeh.min.js", "/ws"])
def test_other_origins_are_refused(address, origin, path):
    origin = origin.replace("HOST", own(address))
    assert ask(address, path, Host=own(address), Origin=origin)[0] == 403


def handshake(address, token="", **headers):
    """Status of a websocket's handshake."""
    asked = {
        "Upgrade": "websocket", "Connection": "Upgrade", "Sec_WebSocket_Version": "13",
        "Sec_WebSocket_Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec_WebSocket_Protocol": f"bokeh, {token}", **headers,
    }  # fmt: skip
    where = urlsplit(address)
    with socket.create_connection(("127.0.0.1", where.port), timeout=60) as wire:
        lines = [f"{k.replace('_', '-')}: {v}" for k, v in asked.items()]
        wire.sendall("\r\n".join(["GET /ws HTTP/1.1", *lines, "", ""]).encode())
        return int(wire.recv(4096).split()[1])


def test_websockets_of_other_pages_are_refused(address):
    _, _, body = ask(address, Host=own(address))
    token = re.search(rb'"token":"([^"]+)"', body)[1].decode()
    host = own(address)
    assert handshake(address, token, Host=host, Origin=f"http://{host}") == 101
    assert handshake(address, token, Host=host, Origin="http://evil.example") == 403
    assert handshake(address, token, Host="evil.example", Origin=f"http://{host}") == 403
    assert handshake(address, token, Host="evil.example", Origin="http://evil.example") == 403
    assert handshake(address, token, Host=host, Origin="null") == 403


def test_only_loopback_listens(address):
    port = urlsplit(address).port
    others = {
        info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)
    } - {"127.0.0.1"}
    for other in others:
        with pytest.raises(OSError):
            socket.create_connection((other, port), timeout=5)
    with pytest.raises(OSError):
        socket.create_connection(("::1", port), timeout=5)


def test_a_port_in_use(inside, explorer_db):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = inside("explore", explorer_db.path, "--no-browser", "--port", port)
        assert done.returncode == 2 and f"port {port} of 127.0.0.1 cannot be used" in done.stderr
    with pytest.raises(ConfigError, match="cannot be used"):
        LoopbackServer(lambda document: None, port=70_000)


def test_a_server_that_cannot_read_lets_go_of_its_port(explorer_db, monkeypatch):
    ports = []

    def refuse(bins, name):
        raise DatabaseError("damaged")

    class Noted(LoopbackServer):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            ports.append(self.port)

    monkeypatch.setattr("pyloric_db.explorer.bins.Bins.load", refuse)
    monkeypatch.setattr("pyloric_db.explorer.server.LoopbackServer", Noted)
    with pytest.raises(DatabaseError, match="damaged"):
        make_server(explorer_db, None)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", ports[0]), timeout=5)


def test_ctrl_c_ends_it(explorer_db):
    with served(explorer_db.path) as (_, process):
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0 and "Traceback" not in errors


@pytest.mark.parametrize(
    "running",
    ["server.run(forget)", "server.loop.add_callback(forget)\nserver.run(lambda: None)"],
    ids=["announcing", "serving"],
)
def test_ctrl_c_ends_it_even_while_an_object_is_finalised(running):
    """Where Python drops a KeyboardInterrupt."""
    script = f"""
import os, signal, weakref
from pyloric_db.explorer.server import LoopbackServer

class Forgotten: pass

def interrupt(_):
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(10_000): pass

def forget():
    kept = Forgotten()
    reference = weakref.ref(kept, interrupt)
    del kept

server = LoopbackServer(lambda document: None)
{running}
print("ended")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "ended\n"), done.stderr


def test_databases_that_cannot_be_explored(inside, tmp_path):
    synthetic.build(tmp_path / "db", shards=[])
    done = inside("explore", tmp_path / "db", "--no-browser")
    assert done.returncode == 2 and "no finished circuits yet" in done.stderr
    done = inside("explore", tmp_path / "x", "--no-browser")
    assert done.returncode == 2 and "does not exist" in done.stderr
