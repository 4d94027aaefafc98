"""What is HTTP's own: redirects, names of several addresses, and connections of clients that nobody closed."""

import asyncio
import contextlib
import gc
import socket
import threading
import time
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from client_sdk import AsyncClient, Client, ServerBusy, ServerError


@contextlib.contextmanager
def http_server(respond, host="127.0.0.1"):
    """A server that answers each request by `respond(handler)`: its URL, and the requests it has heard."""
    heard = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            heard.append((self.path, dict(self.headers), body))
            respond(self)

        do_POST = do_GET

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer((host, 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{host}:{server.server_port}", heard
        server.shutdown()


def answering(status, body=b"", **headers):
    def respond(handler):
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return respond


CALLS = {
    "infer": lambda client: client.encode("a confidential text"),
    "bulk": lambda client: client.encode(["a confidential text"] * 3),
    "config": lambda client: client.info(),
    "ready": lambda client: client.is_ready(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_never_followed_and_is_an_error_that_says_where_it_pointed(status, call):
    with (
        http_server(answering(200), "127.0.0.2") as (target, heard),
        http_server(answering(status, Location=f"{target}/v2")) as (url, _),
        Client(url, api_key="secret", headers={"X-Token": "4711"}) as client,
    ):
        with pytest.raises(ServerError, match=f"{url} answered with a redirect to '{target}/v2' .*{status}"):
            call(client)
        assert heard == []


async def test_an_asynchronous_client_follows_none_either():
    with http_server(answering(200)) as (target, heard), http_server(answering(308, Location=target)) as (url, _):
        async with AsyncClient(url) as client:
            with pytest.raises(ServerError, match="a redirect to"):
                await client.encode("text")
        assert heard == []


def test_of_a_names_addresses_the_one_that_answers_is_used(monkeypatch):
    """127.0.0.3 does not answer: its queue of connections is full."""
    with http_server(answering(200, b"{}")) as (url, heard):
        port = int(url.rpartition(":")[2])
        with socket.socket() as deaf, contextlib.ExitStack() as waiting:
            deaf.bind(("127.0.0.3", port))
            deaf.listen(0)
            for _ in range(4):
                caller = waiting.enter_context(socket.socket())
                caller.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    caller.connect(("127.0.0.3", port))
            resolve = socket.getaddrinfo

            def both(host, *arguments, **options):
                if host != "triton.test":
                    return resolve(host, *arguments, **options)
                return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in ("127.0.0.3", "127.0.0.1")]

            monkeypatch.setattr(socket, "getaddrinfo", both)
            with Client(f"http://triton.test:{port}", timeout=20) as client:
                assert client.is_ready() and len(heard) == 2  # the last step's configuration, and the readiness


@pytest.mark.parametrize(
    "when", ["in the loop", "as the loop ends", "after the loop", "after a loop that was only closed"]
)
def test_an_asynchronous_client_that_nobody_closed_leaves_no_connection(when, caplog):
    held = []

    async def use(url):
        client = AsyncClient(url)
        assert await client.is_ready()
        if when == "in the loop":
            del client
            gc.collect()
            await asyncio.sleep(0.1)
        elif when != "as the loop ends":
            held.append(client)

    with http_server(answering(200, b"{}")) as (url, _), warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        if when == "after a loop that was only closed":
            loop = asyncio.new_event_loop()
            loop.run_until_complete(use(url))
            loop.close()
        else:
            asyncio.run(use(url))
        held.clear()
        gc.collect()
    # asyncio.run ends what was begun in its loop; only asyncio's own sockets know of a loop that is just closed.
    known = () if when != "after a loop that was only closed" else ("unclosed transport", "unclosed <socket")
    assert [str(warning.message) for warning in seen if not str(warning.message).startswith(known)] == []
    assert caplog.records == []


def test_a_blocking_client_that_nobody_closed_leaves_no_connection():
    with http_server(answering(200, b"{}")) as (url, _), warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        client = Client(url)
        assert client.is_ready()
        del client
        gc.collect()
        time.sleep(0.1)
        gc.collect()
    assert [str(warning.message) for warning in seen] == []


def test_a_path_at_which_there_is_no_triton_is_said(server):
    with Client(f"{server.http_url}/elsewhere") as client, pytest.raises(ServerError, match="nothing at the path"):
        client.encode("text")


def test_the_root_of_tritons_own_paths_is_taken_as_url(server):
    with Client(f"{server.http_url}/v2") as client:
        assert client.encode("text").shape == (384,)


def test_a_proxy_that_limits_how_much_is_asked_is_busy():
    with http_server(answering(429, b"slow down")) as (url, heard), Client(url) as client:
        with pytest.raises(ServerBusy, match="HTTP status 429: slow down"):
            client.encode("a text", timeout=0.5)
        assert len(heard) > 1


def test_vectors_are_asked_for_as_they_are():
    """Triton compresses for whoever takes it: a quarter more of its time, for a fifteenth less of vectors."""
    with (
        http_server(answering(200)) as (url, heard),
        Client(url) as client,
        pytest.raises(ServerError, match="does not answer like a Triton server"),
    ):
        client.encode("a text")
    assert {headers["Accept-Encoding"] for _, headers, _ in heard} == {"identity"}
