"""Clients travel by their settings; that they work where they land is shown in tests/server/client/test_client.py."""

import contextlib
import copy
import gc
import pickle
import threading
import weakref

import pytest

from client_sdk import AsyncClient, Client, ClientError, InvalidArgument
from client_sdk import _errors as errors
from client_sdk.bert_as_service._client import BertClient, ConcurrentBertClient
from tests.support.patience import wait_for

URL = "grpc://127.0.0.1:1,grpc://127.0.0.1:2"
TRAVEL = [copy.copy, copy.deepcopy, lambda client: pickle.loads(pickle.dumps(client))]
SETTINGS = {"timeout": 5, "headers": {"x-tenant": "a"}, "api_key": "secret-key"}


@pytest.mark.parametrize("travel", TRAVEL)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_client_travels_by_its_settings(travel, kind):
    client = kind(URL, "minilm", **SETTINGS)
    landed = travel(client)
    assert type(landed) is kind and landed._session.settings == client._session.settings
    assert "secret-key" in str([connection.headers for connection in landed._session.settings.connections])


@pytest.mark.parametrize("url", ["grpc://127.0.0.1:1", "http://127.0.0.1:1"])
def test_a_connection_stays_at_home(url):
    with Client(url) as client:
        fresh = pickle.dumps(client)
        with pytest.raises(ClientError):
            client.encode("text", timeout=5)
        assert client._session._transport is not None and pickle.dumps(client) == fresh
        assert copy.deepcopy(client)._session._transport is None


def test_a_closed_client_stays_closed():
    client = Client(URL)
    client.close()
    with pytest.raises(ClientError, match="is closed"):
        copy.deepcopy(client).encode("text")


@pytest.mark.parametrize("scheme", ["grpcs", "https"])
async def test_a_certificate_that_is_not_there_where_a_client_lands_is_named(tmp_path, scheme):
    authorities = tmp_path / "authorities.pem"
    authorities.write_text("")
    url = f"{scheme}://127.0.0.1:1"
    travelled = [pickle.dumps(kind(url, root_certificates=authorities)) for kind in (Client, AsyncClient)]
    authorities.unlink()
    blocking, asynchronous = map(pickle.loads, travelled)
    with pytest.raises(InvalidArgument, match="root_certificates: there is no file .*authorities.pem"):
        blocking.encode("text")
    with pytest.raises(InvalidArgument, match="root_certificates: there is no file .*authorities.pem"):
        await asynchronous.encode("text")


class Own(Client):
    def __init__(self, url):
        super().__init__(url)
        self.name = "mine"


def test_what_a_subclass_adds_travels_too():
    assert pickle.loads(pickle.dumps(Own(URL))).name == "mine"


@pytest.mark.parametrize("travel", TRAVEL)
@pytest.mark.parametrize("kind", [BertClient, ConcurrentBertClient])
def test_a_client_in_bert_as_services_way_travels(travel, kind):
    with kind(ignore_all_checks=True, max_seq_len=8, timeout=500, output_fmt="list") as client:
        landed = travel(client)
        assert landed.status == {**client.status} and landed._for_texts == client._for_texts
        landed.close()


@pytest.mark.parametrize("kind", [*errors.ClientError.__subclasses__(), errors.InvalidType, errors.VersionChanged])
def test_an_error_travels_back(kind):
    landed = pickle.loads(pickle.dumps(kind("what happened")))
    assert type(landed) is kind and str(landed) == "what happened"


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_copy_shares_what_a_subclass_has_and_no_connection(kind):
    class Mine(kind):
        def __init__(self) -> None:
            super().__init__(URL)
            self.lock = threading.Lock()

    mine = Mine()
    other = copy.copy(mine)
    assert type(other) is Mine and other.lock is mine.lock and other._session is not mine._session


@pytest.mark.parametrize("ask", [Client.is_ready, lambda client: client.encode("text", timeout=2)])
def test_a_dropped_client_leaves_nothing_behind_whatever_had_failed(ask):
    client = Client(URL)
    with contextlib.suppress(ClientError):
        ask(client)
    session = weakref.ref(client._session)
    del client
    wait_for(lambda: gc.collect() >= 0 and session() is None)  # the pool's watch goes on for a few seconds
    wait_for(lambda: not [thread for thread in threading.enumerate() if thread.name == "client_sdk-grpc"])
