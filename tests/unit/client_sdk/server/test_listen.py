import socket

import pytest

from client_sdk._errors import InvalidArgument, ServerStartError
from client_sdk._server import listen
from client_sdk._server.listen import Host, choose_ports


def test_a_name_becomes_an_ipv4_address_where_it_has_one():
    host = Host.resolve("localhost")
    assert host.http_argument == host.grpc_argument == host.url_host == "127.0.0.1"
    assert host.is_loopback


def test_ipv6_is_written_as_each_part_wants_it():
    host = Host.resolve("::1")
    assert (host.http_argument, host.grpc_argument) == ("ipv6:::1", "[::1]")
    assert (host.url_host, host.connect_address) == ("[::1]", "::1")
    assert host.is_loopback


@pytest.mark.parametrize(("name", "reached_at"), [("0.0.0.0", "127.0.0.1"), ("::", "::1")])
def test_what_listens_on_every_network_is_reached_on_loopback(name: str, reached_at: str):
    host = Host.resolve(name)
    assert host.connect_address == reached_at
    assert not host.is_loopback


@pytest.mark.parametrize("name", ["not a host", ""])
def test_a_host_that_is_nothing_is_an_error_that_names_it(name: str):
    with pytest.raises(InvalidArgument, match=rf"'{name}' is not an address.*127\.0\.0\.1.*0\.0\.0\.0"):
        Host.resolve(name)


def test_free_ports_differ_and_can_be_bound():
    host = Host.resolve("127.0.0.1")
    ports = choose_ports(host, http=None, grpc=None, metrics=None)
    assert len({ports.http, ports.grpc, ports.metrics}) == 3
    for port in (ports.http, ports.grpc, ports.metrics):
        host.bind(port).close()


def test_given_ports_are_kept():
    host = Host.resolve("127.0.0.1")
    free = choose_ports(host, http=None, grpc=None, metrics=None)
    ports = choose_ports(host, http=free.grpc, grpc=None, metrics=free.http)
    assert (ports.http, ports.metrics) == (free.grpc, free.http)
    assert ports.grpc not in (ports.http, ports.metrics)


@pytest.mark.parametrize("listening_on", ["127.0.0.1", "0.0.0.0"])
def test_a_port_in_use_is_named_with_its_purpose(listening_on: str):
    with socket.create_server((listening_on, 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ServerStartError, match=rf"grpc port {port} is already in use on 127\.0\.0\.1: stop"):
            choose_ports(Host.resolve("127.0.0.1"), http=None, grpc=port, metrics=None)


def test_an_address_of_another_machine_is_named():
    # TEST-NET-1: documentation only, so it is no address of any machine.
    with pytest.raises(ServerStartError, match=r"192\.0\.2\.1 is not an address of this machine"):
        choose_ports(Host.resolve("192.0.2.1"), http=None, grpc=None, metrics=None)


def test_no_socket_is_left_open_by_a_failed_choice(monkeypatch):
    made = []
    bind = Host.bind

    def recorded(host: Host, port: int) -> socket.socket:
        made.append(bind(host, port))
        return made[-1]

    monkeypatch.setattr(listen.Host, "bind", recorded)
    with socket.create_server(("127.0.0.1", 0)) as other:
        free = choose_ports(Host.resolve("127.0.0.1"), http=None, grpc=None, metrics=None)
        with pytest.raises(ServerStartError):
            choose_ports(Host.resolve("127.0.0.1"), http=free.http, grpc=other.getsockname()[1], metrics=None)
    assert len(made) == 4
    assert all(sock.fileno() == -1 for sock in made)
