"""TLS and headers: Triton's own TLS, a small proxy that ends TLS in front of it, and small servers that listen."""

import contextlib
import shutil
import ssl
import subprocess
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, HTTPServer

import grpc
import pytest

from client_sdk import AsyncClient, Client, InvalidArgument, LocalServer, ServerError, ServerUnreachable
from client_sdk._commands.main import main
from tests.support.patience import PATIENCE
from tests.support.servers.balancer import one_address


def openssl(*arguments, cwd):
    subprocess.run(["openssl", *arguments], cwd=cwd, check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """ca.pem, and what it signed: server.pem and client.pem with their keys, for localhost."""
    assert shutil.which("openssl"), "the program openssl makes the certificates: install the package of that name"
    folder = tmp_path_factory.mktemp("certificates")
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    new_key = ["-newkey", "rsa:2048", "-nodes"]
    openssl("req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test", cwd=folder)
    for name in ("server", "client"):
        openssl("req", *new_key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}", cwd=folder)
        signed_by = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names"]
        openssl("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signed_by, cwd=folder)
    return folder


@contextlib.contextmanager
def tls_proxy(certificates, port, ask_for_certificate):
    """A port that speaks TLS and passes what it hears to `port`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    context.set_alpn_protocols(["h2", "http/1.1"])
    if ask_for_certificate:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(certificates / "ca.pem")

    with one_address(port, tls=context) as outer:
        yield outer


@pytest.fixture(params=["grpcs", "https"])
def inner_port(request, server):
    url = server.grpc_url if request.param == "grpcs" else server.http_url
    return request.param, int(url.rpartition(":")[2])


def test_tls_with_an_authority_of_ones_own(certificates, inner_port):
    scheme, port = inner_port
    with tls_proxy(certificates, port, ask_for_certificate=False) as outer:
        with Client(f"{scheme}://localhost:{outer}", root_certificates=certificates / "ca.pem") as client:
            assert client.encode(["First do it"] * 100).shape == (100, 384)
        with (
            Client(f"{scheme}://localhost:{outer}") as distrustful,
            pytest.raises(ServerUnreachable, match="(?i)certificate"),
        ):
            distrustful.encode("First do it", timeout=PATIENCE)


async def test_tls_with_a_client_certificate(certificates, inner_port):
    scheme, port = inner_port
    files = {
        "root_certificates": certificates / "ca.pem",
        "client_certificate": str(certificates / "client.pem"),
        "client_key": certificates / "client.key",
    }
    with tls_proxy(certificates, port, ask_for_certificate=True) as outer:
        async with AsyncClient(f"{scheme}://localhost:{outer}", **files) as client:
            assert (await client.encode("First do it")).shape == (384,)
        async with AsyncClient(f"{scheme}://localhost:{outer}", root_certificates=files["root_certificates"]) as nobody:
            with pytest.raises(ServerUnreachable):
                await nobody.encode("First do it", timeout=PATIENCE)


@pytest.fixture(scope="module")
def mutual_tls(certificates, moody_repository):
    """A tritonserver whose gRPC speaks TLS, and only with those who show a certificate of the same authority."""
    files = {
        "tls_certificate": certificates / "server.pem",
        "tls_key": certificates / "server.key",
        "tls_client_ca": certificates / "ca.pem",
    }
    with LocalServer(moody_repository, **files) as running:
        yield f"grpcs://localhost:{running.grpc_url.rpartition(':')[2]}"


async def test_tritons_own_tls_with_certificates_on_both_sides(certificates, mutual_tls, capsys):
    files = {
        "root_certificates": certificates / "ca.pem",
        "client_certificate": certificates / "client.pem",
        "client_key": certificates / "client.key",
    }
    with Client(mutual_tls, **files) as client:
        assert client.encode(["text"] * 100).shape == (100, 1)
    async with AsyncClient(mutual_tls, **files) as client:
        assert (await client.encode(["text"] * 100)).shape == (100, 1)
    options = [part for name, path in files.items() for part in (f"--{name.replace('_', '-')}", str(path))]
    assert main(["health", "--url", mutual_tls, *options]) == 0
    assert capsys.readouterr().out.startswith(f"healthy: {mutual_tls}")


def test_tritons_own_tls_refuses_those_without_a_certificate_or_without_tls(certificates, mutual_tls):
    for url, files in (
        (mutual_tls, {"root_certificates": certificates / "ca.pem"}),
        (mutual_tls, {}),
        (mutual_tls.replace("grpcs", "grpc"), {}),
    ):
        with Client(url, **files) as client, pytest.raises(ServerUnreachable):
            client.encode("text", timeout=PATIENCE)


@pytest.mark.parametrize("scheme", ["grpcs", "https"])
async def test_a_file_that_encryption_cannot_use_is_named(certificates, tmp_path, scheme):
    text, locked = tmp_path / "text.pem", tmp_path / "locked.key"
    text.write_text("no certificate")
    openssl("rsa", "-in", "client.key", "-out", locked, "-aes128", "-passout", "pass:secret", cwd=certificates)
    unlike = "client_certificate '.*client.pem' and client_key '.*' are no certificate in PEM and its key without a"
    for files, message in (
        ({"root_certificates": text}, "root_certificates: '.*text.pem' holds no certificates in PEM"),
        ({"client_certificate": certificates / "client.pem", "client_key": certificates / "server.key"}, unlike),
        ({"client_certificate": certificates / "client.pem", "client_key": locked}, unlike),
    ):
        with pytest.raises(InvalidArgument, match=message):
            Client(f"{scheme}://127.0.0.1:1", **files).encode("text")
        with pytest.raises(InvalidArgument, match=message):
            await AsyncClient(f"{scheme}://127.0.0.1:1", **files).encode("text")


def test_headers_are_sent_over_http():
    heard = []

    class Listener(BaseHTTPRequestHandler):
        def do_POST(self):
            heard.append(self.headers["Infer-Key"])
            self.send_error(404)

        def log_message(self, *arguments):
            pass

    with HTTPServer(("127.0.0.1", 0), Listener) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        client = Client(f"http://127.0.0.1:{server.server_port}", headers={"Infer-Key": "secret"})
        with client, pytest.raises(ServerError, match="HTTP status 404"):
            client.encode("text")
        server.shutdown()
    assert heard == ["secret"]


def test_headers_are_sent_over_grpc():
    heard = []

    class Listener(grpc.GenericRpcHandler):
        def service(self, details):
            heard.append(dict(details.invocation_metadata).get("infer-key"))

    server = grpc.server(futures.ThreadPoolExecutor(1), handlers=[Listener()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with (
        Client(f"127.0.0.1:{port}", headers={"Infer-Key": "secret"}) as client,
        pytest.raises(ServerError, match="UNIMPLEMENTED"),
    ):
        client.encode("text")
    server.stop(None)
    assert heard == ["secret"]
