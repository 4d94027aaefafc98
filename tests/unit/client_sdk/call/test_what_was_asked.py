"""What a server said of a model, its labels say, belongs to no answers of another model that took its place."""

import asyncio
import json
import time

import numpy as np
import pytest

from client_sdk import AsyncClient, Client, InvalidArgument, VersionChanged, _session
from client_sdk._commands.main import main
from tests.support.fake_transport import FakeTransport
from tests.support.patience import PATIENCE

OLD, NEW = "0" * 32, "1" * 32


class Server(FakeTransport):
    """A model of two labels or of sparse vectors; `replaced` when it has said what they are, by one of others."""

    def __init__(self, replaced, method):
        super().__init__(self.reply)
        self.identity = OLD
        self.replaced = replaced
        self.kind = {"splade": "max relu"} if method == "encode_sparse" else {"labels": json.dumps(["no", "yes"])}

    def close(self):
        pass

    drop = close

    def reply(self, request):
        if request.identity not in (None, "", self.identity):
            raise self.peer.answered("NOT_FOUND", f"identity: this is {self.identity}: the model has been replaced")
        ones = np.ones((len(request.rows), 2), np.float32)
        return {"SCORES": ones, "WEIGHTS": ones, "INDICES": ones.astype(np.int32)}

    def infer(self, request, timeout):
        request = self.peer.addressed(request)
        return super().infer(request, timeout)

    def query(self, query, timeout):
        parameters = {**self.kind, "dimension": "9"}
        parameters["identity.1"] = self.identity
        if query.model == "bert_pooling" and self.replaced:
            self.identity = NEW
        described = {key: {"string_value": value} for key, value in parameters.items()}
        with self.peer.asking(query) as noted:
            return noted({"max_batch_size": 64, "parameters": described})


class AsyncServer(Server):
    async def infer(self, request, timeout):
        return super().infer(request, timeout)

    async def query(self, query, timeout):
        return super().query(query, timeout)


def call(method, texts, replaced, asynchronous, monkeypatch):
    if not asynchronous:
        monkeypatch.setattr(_session, "open_transport", lambda connections: Server(replaced, method))
        return getattr(Client(), method)(texts)
    monkeypatch.setattr(_session, "open_async_transport", lambda connections: AsyncServer(replaced, method))

    async def ask():
        return await getattr(AsyncClient(), method)(texts, timeout=1)

    return asyncio.run(ask())


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("texts", ["one", ["one", "two"]])
@pytest.mark.parametrize("method", ["classify", "encode_sparse"])
def test_a_model_that_was_replaced_after_it_was_asked_about_does_not_answer(method, texts, asynchronous, monkeypatch):
    assert len(call(method, texts, False, asynchronous, monkeypatch)) == 2
    with pytest.raises(VersionChanged, match="replaced"):
        call(method, texts, True, asynchronous, monkeypatch)


def test_nor_does_it_on_the_command_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(_session, "open_transport", lambda connections: Server(True, "classify"))
    (tmp_path / "texts.txt").write_text("one\ntwo\n")
    assert main(["classify", str(tmp_path / "texts.txt")]) == 1
    shown = capsys.readouterr()
    assert shown.out == "" and "replaced" in shown.err


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("method", ["classify", "encode_sparse", "encode_multi"])
@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        ([], {}, "texts is empty"),
        (["one", " "], {}, "text 1 is blank"),
        (["one", 2], {}, "text 1 is int"),
        (["one"], {"max_seq_len": 0}, "max_seq_len must be at least 1"),
        (["one"], {"batch_size": 0}, "batch_size must be at least 1"),
        (["one"], {"timeout": -1}, "timeout must be a positive"),
    ],
)
def test_nothing_is_asked_about_what_is_wrong_in_itself(method, texts, options, message, asynchronous):
    client = (AsyncClient if asynchronous else Client)("127.0.0.1:1")
    with pytest.raises(InvalidArgument, match=message):
        found = getattr(client, method)(texts, **options)
        if asynchronous:
            asyncio.run(found)


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("method", ["classify", "encode_sparse"])
def test_what_is_asked_first_is_in_the_time_of_the_call(method, asynchronous, monkeypatch):
    server = (AsyncServer if asynchronous else Server)(False, method)
    query = server.query

    def late(*arguments):
        time.sleep(0.2)
        return query(*arguments)

    server.query = late
    monkeypatch.setattr(_session, "open_transport", lambda connections: server)
    monkeypatch.setattr(_session, "open_async_transport", lambda connections: server)
    found = getattr((AsyncClient if asynchronous else Client)(), method)("one", timeout=PATIENCE)
    assert len(asyncio.run(found) if asynchronous else found) == 2
    assert server.timeouts[0] <= PATIENCE - 0.2
