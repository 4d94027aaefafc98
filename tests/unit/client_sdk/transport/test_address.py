import pytest

from client_sdk import InvalidArgument, InvalidType
from client_sdk._transport.address import Address, parse_address, parse_addresses


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("localhost:8001", Address("grpc", "localhost", 8001)),
        ("localhost", Address("grpc", "localhost", 8001)),
        (" gpu-7 ", Address("grpc", "gpu-7", 8001)),
        ("grpc://10.0.0.1:9", Address("grpc", "10.0.0.1", 9)),
        ("GRPCS://Host", Address("grpcs", "host", 8001)),
        ("http://host", Address("http", "host", 8000)),
        ("https://host:443/triton/", Address("https", "host", 443, "/triton")),
        ("[::1]:8001", Address("grpc", "::1", 8001)),
        ("http://host:8000/v2", Address("http", "host", 8000)),
        ("https://host/triton/v2/", Address("https", "host", 8000, "/triton")),
    ],
)
def test_every_form_of_url_is_read(url, expected):
    assert parse_address(url) == expected


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://host:1", "the scheme 'ftp'"),
        ("grpc://", "no host"),
        ("", "no host"),
        (":8001", "no host"),
        ("host:port", "port"),
        ("host:99999", "[Pp]ort"),
        ("host:0", "port 0"),
        ("http://host:0", "port 0"),
        ("http://host/v2/models/bert", "the part before /v2"),
        ("grpc://host/path", "no path"),
        ("http://user:secret@host", "a user"),
        ("http://host/?a=b", "a query"),
    ],
)
def test_a_wrong_url_is_refused_with_what_is_allowed(url, reason):
    with pytest.raises(InvalidArgument, match=f"{reason}.*allowed: host:port, grpc://"):
        parse_address(url)


def test_a_url_that_is_not_a_str_is_refused():
    with pytest.raises(InvalidType, match="not int"):
        parse_address(8001)


def test_an_address_prints_as_its_url():
    assert str(parse_address("[::1]")) == "grpc://[::1]:8001"
    assert str(parse_address("https://host/triton")) == "https://host:8000/triton"


@pytest.mark.parametrize("url", ["one:1, two", ["one:1", "two"], ("grpc://one:1", "grpc://two:8001")])
def test_several_addresses_come_with_commas_or_as_a_list(url):
    assert parse_addresses(url) == (Address("grpc", "one", 1), Address("grpc", "two", 8001))


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("one,http://two", "same scheme, and they are grpc://one:8001, http://two:8000"),
        ("one,two,one:8001", "given twice, of grpc://one:8001, grpc://two:8001, grpc://one:8001"),
        ("one,,two", "url '': there is no host"),
        ([], "empty list; allowed: host:port"),
    ],
)
def test_several_addresses_that_do_not_go_together_are_refused(url, reason):
    with pytest.raises(InvalidArgument, match=reason):
        parse_addresses(url)


@pytest.mark.parametrize("url", [8001, b"host", ["one", 2]])
def test_addresses_are_str(url):
    with pytest.raises(InvalidType, match="must be a str"):
        parse_addresses(url)
