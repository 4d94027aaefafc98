"""A server that encrypts: with real certificates, for clients with and without them."""

import secrets
import shutil
import subprocess
from pathlib import Path

import pytest

from client_sdk import Client, InvalidArgument, LocalServer, ServerUnreachable
from tests.support.patience import PATIENCE
from tests.support.servers.local_servers import ending, http_request, read_until, serve

KEY = secrets.token_urlsafe(24)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Authorities `ca` and `other`, and server, client and stranger, the last by the other authority."""
    folder = tmp_path_factory.mktemp("certificates")
    assert shutil.which("openssl"), "openssl makes the certificates: apt install openssl"

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    new = ["-newkey", "rsa:2048", "-nodes", "-keyout"]
    for ca in ("ca", "other"):
        openssl("req", "-x509", *new, f"{ca}.key", "-out", f"{ca}.pem", "-subj", f"/CN={ca}")
    for name, ca in (("server", "ca"), ("client", "ca"), ("stranger", "other")):
        openssl("req", *new, f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signed = ["-CA", f"{ca}.pem", "-CAkey", f"{ca}.key", "-CAcreateserial", "-extfile", "names"]
        openssl("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signed)
    return folder


def test_grpc_is_encrypted_with_the_given_certificate(moody_repository: Path, certificates: Path):
    files = {"tls_certificate": certificates / "server.pem", "tls_key": certificates / "server.key"}
    with LocalServer(moody_repository, **files, api_key=KEY) as server:
        assert server.grpc_url.startswith("grpcs://127.0.0.1:")
        with Client(server.grpc_url, root_certificates=certificates / "ca.pem", api_key=KEY) as client:
            assert client.encode("four").tolist() == [4]
        with (
            Client(server.grpc_url, root_certificates=certificates / "other.pem", api_key=KEY) as client,
            pytest.raises(ServerUnreachable),
        ):
            client.encode("four", timeout=PATIENCE)
        with Client(server.grpc_url.replace("grpcs", "grpc"), api_key=KEY) as client, pytest.raises(ServerUnreachable):
            client.encode("four", timeout=PATIENCE)


def test_clients_need_a_certificate_where_an_authority_is_named(moody_repository: Path, certificates: Path):
    files = {
        "tls_certificate": certificates / "server.pem",
        "tls_key": certificates / "server.key",
        "tls_client_ca": certificates / "ca.pem",
    }
    with LocalServer(moody_repository, **files) as server:

        def encode(name: str | None) -> list[float]:
            own = {"client_certificate": certificates / f"{name}.pem", "client_key": certificates / f"{name}.key"}
            with Client(server.grpc_url, root_certificates=certificates / "ca.pem", **(own if name else {})) as client:
                return client.encode("four", timeout=PATIENCE).tolist()

        assert encode("client") == [4]
        for name in (None, "stranger"):
            with pytest.raises(ServerUnreachable):
                encode(name)


def test_http_stays_on_this_machine_where_grpc_is_encrypted(moody_repository: Path, certificates: Path):
    files = {"tls_certificate": certificates / "server.pem", "tls_key": certificates / "server.key"}
    with LocalServer(moody_repository, host="0.0.0.0", **files) as server:
        port = int(server.http_url.rpartition(":")[2])
        assert http_request(server.http_url, "GET", "/v2/health/ready")[0] == 200
        listening = {line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]}
        assert f"0100007F:{port:04X}" in listening and f"00000000:{port:04X}" not in listening


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"tls_certificate": "server.pem"}, "belong together"),
        ({"tls_client_ca": "ca.pem"}, "belong together"),
        ({"tls_certificate": "server.pem", "tls_key": "nothing.key"}, "nothing.key' cannot be read: No such file"),
    ],
)
def test_files_that_do_not_make_an_encrypted_server_are_refused(
    moody_repository: Path, certificates: Path, names: dict[str, str], message: str
):
    with pytest.raises(InvalidArgument, match=message):
        LocalServer(moody_repository, **{name: certificates / file for name, file in names.items()})


def test_serve_says_that_grpc_is_encrypted(moody_repository: Path, certificates: Path):
    options = [f"--tls-cert={certificates / 'server.pem'}", f"--tls-key={certificates / 'server.key'}"]
    with ending(serve(moody_repository, "--listen=0.0.0.0", *options)) as process:
        printed = read_until(process, "Ctrl-C")
        assert "grpcs://127.0.0.1:" in printed
        assert "gRPC is encrypted, metrics are not, and HTTP is for this machine alone" in printed
        process.terminate()
        assert process.wait(PATIENCE) == 0
